use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

/// Ending of a complete file.
pub(super) const COMPLETE: &str = "escrow";
/// Ending of a file that is being written.
pub(super) const UNFINISHED: &str = "new";

/// Gives a complete file its name.
pub(super) fn finish(folder: &Path, name: &str, unfinished: &Path) -> io::Result<()> {
    fs::rename(unfinished, folder.join(name).with_extension(COMPLETE))?;
    File::open(folder)?.sync_all()
}

/// Returns the names of the files with this ending.
pub(super) fn ending_in(folder: &Path, ending: &str) -> io::Result<Vec<String>> {
    let Some(entries) = present(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|found| found == ending) {
            names.extend(name.into_string());
        }
    }
    Ok(names)
}

/// Maps "not found" to `None`.
pub(super) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
