//! `cargo xtask emulate`: the kernels' tests on processors that this machine is not. NEON under qemu, AVX-512 in Bochs,
//! which knows its instructions but is a whole machine: it boots a kernel whose first program is the tests'.
//!
//! Says whether the arithmetic is right, and nothing of its speed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    check::ARM_TARGET,
    front,
    places::Places,
    processes::{now, pause},
    rust_tests,
    steps::{Steps, say},
    tool::{Tool, which},
};

/// What is wanted.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these processors
    #[arg(value_enum)]
    processors: Vec<Processor>,
    /// Arguments for the tests, such as a part of a name
    #[arg(last = true)]
    tests: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Processor {
    /// AArch64: NEON, about 5 minutes
    Neon,
    /// x86-64 with AVX-512 VNNI, about 10 minutes
    Avx512,
}

/// Runs the tests on each.
pub(crate) fn all(places: &Places, steps: &mut Steps, options: &Options) -> Result<()> {
    let wanted = |one| options.processors.is_empty() || options.processors.contains(&one);
    if wanted(Processor::Neon) {
        steps.attempt("NEON", "under qemu, about 5 minutes", || neon(places, &options.tests));
    }
    if wanted(Processor::Avx512) {
        steps.attempt("AVX-512", "in Bochs, about 10 minutes", || avx512(places, &options.tests));
    }
    steps.finish()
}

/// These must be here; `packages` are Debian's that bring them.
fn need(programs: &[&str], files: &[&str], packages: &str) -> Result<()> {
    let programs = programs.iter().filter(|name| which(name).is_none());
    let files = files.iter().filter(|file| !Path::new(file).exists());
    let missing: Vec<&str> = programs.chain(files).copied().collect();
    ensure!(missing.is_empty(), "missing: {}. On Debian: `apt-get install {packages}`.", missing.join(", "));
    Ok(())
}

fn neon(places: &Places, tests: &[String]) -> Result<()> {
    const LINKER: &str = "aarch64-linux-gnu-gcc";
    const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
    need(&[LINKER, "qemu-aarch64"], &[LIBRARIES], "qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross")?;
    front::have_target(places, ARM_TARGET)?;
    places
        .cargo()
        .args(["test", "--release", "--package", "kernels", "--target", ARM_TARGET, "--"])
        .args(tests)
        .env("INNKEEPER_LEVEL", "NEON")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("qemu-aarch64 -L {LIBRARIES}"))
        .run()
}

/// The longest that all tests take there, on a slow machine.
const PATIENCE: Duration = Duration::from_hours(1);
const ISOLINUX: &str = "/usr/lib/ISOLINUX/isolinux.bin";
const LOADER: &str = "/usr/lib/syslinux/modules/bios/ldlinux.c32";
/// Bochs 2.7 knows VNNI and fails where a kernel of today asks for more than programs do: the state of supervisors saved
/// compactly, memory keys, strings moved by microcode, tagged address spaces, and bases of segments. The kernel is told not to
/// see them (names of bits as in its `cpufeatures.h`); programs see all.
const KERNEL: &str = "console=ttyS0 loglevel=5 panic=-1 mitigations=off acpi=off apparmor=0 lsm= idle=halt \
    tsc=reliable no_timer_check nofsgsbase \
    clearcpuid=90,124,145,288,297,298,307,308,321,323,514,515,516,534,580";

fn avx512(places: &Places, tests: &[String]) -> Result<()> {
    need(
        &["bochs-bin", "xorriso", "cpio", "apt-get", "dpkg-deb"],
        &[ISOLINUX, LOADER, "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_sdl2_gui.so"],
        "bochs bochs-sdl bochsbios vgabios xorriso isolinux syslinux-common cpio",
    )?;
    let folder = places.target.join("emulated");
    let program = rust_tests::program_of(places, "kernels")?;
    let image = image(&folder, &program, tests)?;
    let machine = Machine::start(&folder, &image)?;
    machine.watch()
}

/// Debian's kernel for machines that are programs, of this release.
fn kernel(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("kernel");
    let find = || {
        let boot = fs::read_dir(unpacked.join("boot")).into_iter().flatten().flatten();
        boot.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/vmlinuz-"))
    };
    if let Some(there) = find() {
        return Ok(there);
    }
    let depends = Tool::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]).capture()?;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let name = name.context("apt knows no linux-image-cloud-amd64; `apt-get update` first")?;
    let download = folder.join("download");
    fs::create_dir_all(&download)?;
    Tool::new("apt-get")
        .args(["download", "--quiet", &format!("linux-image-{name}")])
        .dir(&download)
        .run()?;
    let package = fs::read_dir(&download)?.flatten().map(|entry| entry.path()).next();
    let package = package.context("apt-get has left no package")?;
    Tool::new("dpkg-deb").args([Path::new("-x"), &package, &unpacked]).run()?;
    fs::remove_dir_all(&download)?;
    find().context("the package has no kernel")
}

/// A disc that boots the kernel with the tests as its first program.
fn image(folder: &Path, program: &Path, tests: &[String]) -> Result<PathBuf> {
    let (root, disc) = (folder.join("root"), folder.join("disc"));
    for old in [&root, &disc] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(disc.join("isolinux"))?;
    fs::create_dir_all(root.join("tmp"))?;
    fs::copy(program, root.join("tests"))?;
    for library in libraries(program)? {
        let there = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(there.parent().context("a library lies in a folder")?)?;
        fs::copy(&library, there)?;
    }
    let pack = "find . | cpio --quiet --create --format=newc > \"$DISC\"/initrd";
    Tool::new("sh").args(["-c", pack]).dir(&root).env("DISC", &disc).run()?;
    fs::copy(kernel(folder)?, disc.join("vmlinuz"))?;
    fs::copy(ISOLINUX, disc.join("isolinux/isolinux.bin"))?;
    fs::copy(LOADER, disc.join("isolinux/ldlinux.c32"))?;
    fs::write(disc.join("isolinux/isolinux.cfg"), boot_menu(tests))?;
    let image = folder.join("disc.iso");
    Tool::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat"])
        .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"])
        .args([&image, &disc])
        .run()?;
    Ok(image)
}

/// One processor runs one test at a time. The pool's own tests have no instructions of a level, and look into `/proc`, which
/// nobody mounts there.
fn boot_menu(tests: &[String]) -> String {
    let tests = tests.join(" ");
    format!(
        "DEFAULT tests\nLABEL tests\nKERNEL /vmlinuz\nAPPEND initrd=/initrd rdinit=/tests {KERNEL} INNKEEPER_LEVEL=AVX-512 -- --test-threads=1 --skip pool:: {tests}\n"
    )
}

/// What a program is linked with, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let told = Tool::new("ldd").args([program]).capture()?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(told.lines().filter_map(path).collect())
}

/// A Bochs that runs; ends with its owner.
struct Machine {
    bochs: Child,
    serial: PathBuf,
}

impl Machine {
    fn start(folder: &Path, image: &Path) -> Result<Self> {
        let (serial, settings, commands) =
            (folder.join("serial"), folder.join("bochsrc"), folder.join("commands"));
        fs::write(&serial, "")?;
        fs::write(&settings, bochs_settings(image, &serial, &folder.join("log")))?;
        // Debian's has a debugger, which waits for a word before it begins.
        fs::write(&commands, "c\n")?;
        let bochs = Command::new("bochs-bin")
            .arg("-q")
            .args([Path::new("-f"), &settings, Path::new("-rc"), &commands])
            // A screen that shows nothing. The one in a terminal stands still when nobody reads it.
            .env("SDL_VIDEODRIVER", "dummy")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Bochs")?;
        Ok(Self { bochs, serial })
    }

    /// Tells what the tests say, until their end.
    fn watch(mut self) -> Result<()> {
        let (began, mut told) = (now(), 0);
        loop {
            let text = String::from_utf8_lossy(&fs::read(&self.serial)?).into_owned();
            let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
            let lines = whole.get(told..).unwrap_or_default();
            lines.iter().filter(|line| line.starts_with("test ")).for_each(|line| say(line.trim_end()));
            told = whole.len();
            if let Some(passed) = verdict(&text) {
                ensure!(passed, "tests failed:\n{}", text.trim_end());
                return Ok(());
            }
            if let Some(status) = self.bochs.try_wait()? {
                bail!("Bochs ended by itself ({status}); the machine said:\n{}", text.trim_end());
            }
            ensure!(began.elapsed() < PATIENCE, "no end within {PATIENCE:?}; the machine said:\n{text}");
            pause(500);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.bochs.kill());
        drop(self.bochs.wait());
    }
}

/// The kernel panics when its first program ends, and says how that ended. The program's last words may be lost with it.
fn verdict(serial: &str) -> Option<bool> {
    let code = serial.split("Attempted to kill init! exitcode=").nth(1)?;
    Some(code.starts_with("0x00000000") && serial.contains(" ... ok"))
}

fn bochs_settings(image: &Path, serial: &Path, log: &Path) -> String {
    let (image, serial, log) = (image.display(), serial.display(), log.display());
    format!(
        "config_interface: textconfig
display_library: sdl2
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_icelake_u, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1
ata0-master: type=cdrom, path=\"{image}\", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=\"{serial}\"
log: \"{log}\"
clock: sync=none, time0=local
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_that_ran_to_a_good_end_have_passed() {
        let end = |code: &str| format!("test one ... ok\nAttempted to kill init! exitcode={code}\n");
        assert_eq!(verdict("test one ... ok\ntest two ... "), None);
        assert_eq!(verdict(&end("0x00000000")), Some(true));
        assert_eq!(verdict(&end("0x00006500")), Some(false));
        assert_eq!(verdict("running 0 tests\nAttempted to kill init! exitcode=0x00000000"), Some(false));
    }

    #[test]
    fn what_is_missing_is_named_with_its_packages() {
        let error = need(&["sh", "no-such-program"], &["/no/such/file"], "some packages").unwrap_err();
        assert_eq!(
            error.to_string(),
            "missing: no-such-program, /no/such/file. On Debian: `apt-get install some packages`."
        );
    }
}
