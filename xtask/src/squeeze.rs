//! Compressed twins of a file: `.br` (brotli, quality 11, window 22) and `.gz` (deflate 9).

use std::{io::Write, path::Path};

use anyhow::{Context, Result};

use crate::stamp;

/// Writes both twins beside the file; returns the brotli size in bytes.
pub(crate) fn twins(file: &Path, content: &[u8]) -> Result<usize> {
    let br = brotli(content)?;
    stamp::write_if_changed(&with_suffix(file, ".br")?, &br)?;
    stamp::write_if_changed(&with_suffix(file, ".gz")?, &gzip(content)?)?;
    Ok(br.len())
}

fn brotli(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, 11, 22);
    writer.write_all(content)?;
    Ok(writer.into_inner())
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(content)?;
    Ok(writer.finish()?)
}

fn with_suffix(file: &Path, suffix: &str) -> Result<std::path::PathBuf> {
    let mut name = file.file_name().context("a file has a name")?.to_owned();
    name.push(suffix);
    Ok(file.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    #[test]
    fn both_twins_unpack_to_the_file_and_the_brotli_size_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.css");
        let content = ".row { color: red }\n".repeat(500).into_bytes();
        let size = twins(&file, &content).unwrap();
        let br = fs::read(dir.path().join("page.css.br")).unwrap();
        assert_eq!(br.len(), size);
        assert!(size < content.len() / 10);
        let mut back = Vec::new();
        brotli::Decompressor::new(br.as_slice(), 4096).read_to_end(&mut back).unwrap();
        assert_eq!(back, content);
        let gz = fs::read(dir.path().join("page.css.gz")).unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(gz.as_slice()).read_to_end(&mut back).unwrap();
        assert_eq!(back, content);
    }
}
