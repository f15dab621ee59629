//! The program of a successor: the path of this process's program, whatever file is there by then.
//!
//! Owns the path, determined once at the start, and the arguments. Must not know upgrades. Invariant: a request for an upgrade
//! cannot change either.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The program of this process and its arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its arguments, without the program's name.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// The program of this process. Must be called at the start: once the file has been replaced, the kernel returns the path
    /// of a deleted one (proc(5), `/proc/pid/exe`).
    ///
    /// # Errors
    ///
    /// If the kernel does not return it.
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

/// The path as it was typed, if it points to the running program. The kernel's path has links resolved, and some
/// installations switch versions by a link.
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
    fn a_link_is_preserved_and_another_program_is_not_used() {
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
    fn the_program_of_this_process_is_found() {
        let program = Program::of_this_process().unwrap();
        assert!(program.path.is_absolute() && program.path.exists());
    }
}
