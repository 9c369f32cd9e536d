//! The kernel's totals that the books of RAM are made of, and its pressure: pure readings of text.

use std::{fs, path::Path};

use manager::ports::RamTotals;
use protocol::Pressure;

use crate::TelemetryError;

/// Bytes of a line `Name:  123 kB`. `None`: no such line, no number, or one beyond all memories.
pub(crate) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The machine's totals at this moment.
pub(crate) fn now(proc: &Path) -> Result<RamTotals, TelemetryError> {
    let path = proc.join("meminfo");
    let shown = || path.display().to_string();
    let text =
        fs::read_to_string(&path).map_err(|cause| TelemetryError::Unreadable { path: shown(), cause })?;
    // Some kernels show no zones; then nothing is known of what lies on the lists.
    let zones = fs::read_to_string(proc.join("zoneinfo")).unwrap_or_default();
    let totals = meminfo(&text).map_err(|line| TelemetryError::Unknown { path: shown(), line })?;
    let page_bytes = rustix::param::page_size() as u64;
    Ok(RamTotals { per_cpu_lists: per_cpu_lists(&zones, page_bytes), ..totals })
}

/// The totals of `/proc/meminfo`; those of the per-CPU lists stand in another file and are left 0.
///
/// `Err`: the line that is missing. Only the first two must be there: other lines came with kernels in time, and
/// what a kernel does not count is not in its memory either.
pub(crate) fn meminfo(text: &str) -> Result<RamTotals, &'static str> {
    let mut totals = RamTotals::default();
    let (mut has_total, mut has_free) = (false, false);
    let (mut reclaimable, mut slab_reclaimable) = (None, 0);
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let number = rest.split_ascii_whitespace().next().and_then(|digits| digits.parse::<u64>().ok());
        let Some(bytes) = number.and_then(|kib| kib.checked_mul(1024)) else { continue };
        match name {
            "MemTotal" => (totals.total, has_total) = (bytes, true),
            "MemFree" => (totals.free, has_free) = (bytes, true),
            "Buffers" => totals.buffers = bytes,
            "Cached" => totals.cached = bytes,
            "Shmem" => totals.shmem = bytes,
            "KReclaimable" => reclaimable = Some(bytes),
            "SReclaimable" => slab_reclaimable = bytes,
            "AnonPages" => totals.anonymous = bytes,
            "SUnreclaim" => totals.slab_unreclaimable = bytes,
            "PageTables" => totals.page_tables = bytes,
            "Percpu" => totals.per_cpu = bytes,
            "VmallocUsed" => totals.vmalloc_used = bytes,
            "KernelStack" => totals.kernel_stack = bytes,
            _ => {}
        }
    }
    totals.kernel_reclaimable = reclaimable.unwrap_or(slab_reclaimable);
    match (has_total, has_free) {
        (false, _) => Err("MemTotal"),
        (_, false) => Err("MemFree"),
        _ => Ok(totals),
    }
}

/// Bytes on the per-CPU page lists, from `/proc/zoneinfo`: the `count:` of each CPU of each zone, in pages.
pub(crate) fn per_cpu_lists(text: &str, page_bytes: u64) -> u64 {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:")?.trim().parse::<u64>().ok())
        .fold(0_u64, u64::saturating_add)
        .saturating_mul(page_bytes)
}

/// `/proc/pressure/memory`. `None`: this kernel has no PSI, or it was switched off.
pub(crate) fn pressure(text: &str) -> Option<Pressure> {
    let avg10 = |kind: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let share = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
        share.parse::<f64>().ok().filter(|share| share.is_finite() && (0.0..=100.0).contains(share))
    };
    Some(Pressure { some_avg10: avg10("some ")?, full_avg10: avg10("full ")? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMINFO: &str = include_str!("../tests/recorded/meminfo");
    const ZONEINFO: &str = include_str!("../tests/recorded/zoneinfo");

    #[test]
    fn a_recorded_meminfo_and_zoneinfo_leave_almost_nothing_unaccounted() {
        let mut totals = meminfo(MEMINFO).unwrap();
        totals.per_cpu_lists = per_cpu_lists(ZONEINFO, 4096);
        assert_eq!(totals.total, 24_684_084 << 10);
        assert_eq!(totals.per_cpu_lists, RECORDED_LIST_PAGES * 4096);
        let t = &totals;
        let known = t.free
            + t.per_cpu_lists
            + t.buffers
            + t.cached
            + t.kernel_reclaimable
            + t.anonymous
            + t.slab_unreclaimable
            + t.page_tables
            + t.per_cpu
            + t.vmalloc_used
            + t.kernel_stack;
        assert!(
            t.total.abs_diff(known) < t.total / 200,
            "{} of {} unaccounted",
            t.total.abs_diff(known),
            t.total
        );
    }

    /// Counted by hand in the recorded file: 5943 on one processor, 4909 on the other.
    const RECORDED_LIST_PAGES: u64 = 10_852;

    #[test]
    fn only_the_counts_of_page_lists_are_summed() {
        let text = "Node 0, zone Normal\n  pages free 9\n        present 7\n  pagesets\n    cpu: 0\n              \
                    count:    61\n              high:     378\n    cpu: 1\n              count: 5\n  start_pfn: 1\n";
        assert_eq!(per_cpu_lists(text, 4096), 66 * 4096);
    }

    #[test]
    fn an_old_kernel_without_kreclaimable_counts_its_slab() {
        let totals = meminfo("MemTotal: 100 kB\nMemFree: 10 kB\nSReclaimable: 7 kB\n").unwrap();
        assert_eq!(totals.kernel_reclaimable, 7 << 10);
    }

    #[test]
    fn a_file_without_its_first_lines_is_refused_by_name() {
        assert_eq!(meminfo("MemFree: 1 kB\n"), Err("MemTotal"));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), Err("MemFree"));
    }

    #[test]
    fn pressure_is_read_and_its_absence_is_none() {
        let text =
            "some avg10=1.25 avg60=0.40 avg300=0.05 total=9\nfull avg10=0.50 avg60=0.1 avg300=0.0 total=3\n";
        assert_eq!(pressure(text), Some(Pressure { some_avg10: 1.25, full_avg10: 0.5 }));
        for text in
            ["", "some avg10=x\nfull avg10=0\n", "some avg10=0.00\n", "some avg10=NaN\nfull avg10=0\n"]
        {
            assert_eq!(pressure(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "((MemTotal|MemFree|KReclaimable|some avg10|full avg10|count):? *=?-?[0-9.]{0,25}( kB)?\n|\\PC{0,30}\n){0,12}") {
            let _ = meminfo(&text);
            let _ = per_cpu_lists(&text, 4096);
            let _ = pressure(&text);
        }

        #[test]
        fn every_number_comes_back_in_bytes(kibs in 0_u64..1 << 40) {
            prop_assert_eq!(kib(&format!("X: 1 kB\nAnon:  {kibs} kB\n"), "Anon"), Some(kibs << 10));
        }
    }
}
