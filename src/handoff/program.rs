//! Which program a successor is: the one that this process was started as, whatever its file holds by then.
//!
//! Owns the path, taken once at the start, and the arguments. Invariant: nobody who asks for an upgrade has a say in it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The program of this process, and what it was started with.
#[derive(Debug, Clone)]
pub struct Program {
    /// Absolute.
    pub path: PathBuf,
    /// Without the program's name.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// This process's own. To be called at the start: once the file has been replaced, the kernel names one that is gone
    /// (proc(5), `/proc/pid/exe`).
    ///
    /// # Errors
    ///
    /// When the kernel does not say what runs.
    pub fn of_this_process() -> io::Result<Self> {
        let exact = std::env::current_exe()?;
        let mut arguments = std::env::args_os();
        let typed = arguments.next().map(PathBuf::from);
        Ok(Self {
            path: typed
                .and_then(|typed| as_typed(&typed, &exact))
                .unwrap_or(exact),
            arguments: arguments.collect(),
        })
    }
}

/// The path by which the program was called, if it leads to what runs: the kernel has followed links in the other one, and
/// a link is how some installations switch between versions.
fn as_typed(typed: &Path, exact: &Path) -> Option<PathBuf> {
    if typed.components().count() < 2 {
        return None;
    }
    let typed = std::path::absolute(typed).ok()?;
    let same = std::fs::canonicalize(&typed).is_ok_and(|found| found == *exact);
    same.then_some(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_kept_and_a_foreign_name_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let directory = std::fs::canonicalize(directory.path()).unwrap();
        let (real, link) = (directory.join("lyncpin-1"), directory.join("lyncpin"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(as_typed(&link, &real), Some(link.clone()));
        assert_eq!(as_typed(&real, &real), Some(real.clone()));
        assert_eq!(as_typed(Path::new("lyncpin"), &real), None);
        assert_eq!(as_typed(Path::new("/bin/sh"), &real), None);
        assert_eq!(as_typed(&directory.join("missing"), &real), None);
    }

    #[test]
    fn this_process_is_known() {
        let program = Program::of_this_process().unwrap();
        assert!(program.path.is_absolute() && program.path.exists());
    }
}
