//! Writing the file.
//!
//! Owns the order of writing, syncing and renaming. Must not know the content. Invariants: under the file's name there is
//! always a complete file; an incomplete write is cut off again, if the disk allows it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use super::path::{MODE, StorePath};

/// The file, which batches are appended to.
pub(super) struct JournalFile {
    file: File,
    length: u64,
}

/// Whether a write must survive a failure of the machine, or only of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// A failure of the machine.
    Machine,
    /// A failure of the process: the kernel has the data.
    Process,
}

impl JournalFile {
    /// Opens the file to append to it; it is valid up to `length`.
    pub(super) fn open(path: &StorePath, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(&path.file)?;
        file.set_len(length)?;
        Ok(Self { file, length })
    }

    /// Its length.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends all or nothing. After an error nothing more can be appended, since the state of the disk is unknown.
    pub(super) fn append(&mut self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        let sync = |file: &File| match durability {
            Durability::Machine => file.sync_data(),
            Durability::Process => Ok(()),
        };
        let written = self
            .file
            .write_all_at(bytes, self.length)
            .and_then(|()| sync(&self.file));
        match &written {
            Ok(()) => self.length += bytes.len() as u64,
            // If that fails as well, the reader finds a torn write.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

/// The next file, under another name until it is complete. `Drop` removes it if it never is.
pub(super) struct NextFile<'a> {
    path: &'a StorePath,
    log: Option<JournalFile>,
}

impl<'a> NextFile<'a> {
    /// Creates it.
    pub(super) fn create(path: &'a StorePath) -> io::Result<Self> {
        match fs::remove_file(&path.draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(MODE)
            .open(&path.draft)?;
        let log = Some(JournalFile { file, length: 0 });
        Ok(Self { path, log })
    }

    /// Writes its next bytes to the disk.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.log {
            Some(log) => log.append(bytes, Durability::Machine),
            None => Ok(()),
        }
    }

    /// Replaces the file by it.
    pub(super) fn finish(mut self) -> io::Result<JournalFile> {
        let log = self.log.take().ok_or(io::ErrorKind::NotFound)?;
        let renamed = log
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path.draft, &self.path.file));
        if let Err(error) = renamed {
            self.log = Some(log);
            return Err(error);
        }
        // Once renamed it is the file, even if the rename may not survive a power failure.
        if let Err(error) = self.path.sync_directory() {
            tracing::warn!(
                target: "lyncpin::store",
                %error,
                "affinity store: could not sync the directory; after a power failure an older file may be read"
            );
        }
        Ok(log)
    }
}

impl Drop for NextFile<'_> {
    fn drop(&mut self) {
        if self.log.is_some() {
            // If that fails, the next one removes it.
            let _ = fs::remove_file(&self.path.draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn path(directory: &tempfile::TempDir) -> StorePath {
        StorePath::lock(&directory.path().join("affinity")).unwrap()
    }

    #[test]
    fn a_draft_becomes_the_file_when_it_is_complete_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory);
        fs::write(&path.file, b"before").unwrap();
        // As a killed process leaves it.
        fs::write(&path.draft, b"half of it").unwrap();
        let mut draft = NextFile::create(&path).unwrap();
        draft.write(b"new").unwrap();
        assert_eq!(fs::read(&path.file).unwrap(), b"before");
        let mut log = draft.finish().unwrap();
        log.append(b", added", Durability::Machine).unwrap();
        log.append(b" to", Durability::Process).unwrap();
        assert_eq!(fs::read(&path.file).unwrap(), b"new, added to");
        assert_eq!(log.length(), 13);
        let mode = fs::metadata(&path.file).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, path.draft.exists()), (0o600, false));
    }

    #[test]
    fn an_abandoned_draft_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory);
        fs::write(&path.file, b"before").unwrap();
        let mut draft = NextFile::create(&path).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert!(!path.draft.exists());
        assert_eq!(fs::read(&path.file).unwrap(), b"before");
    }

    #[test]
    fn a_journal_continues_at_the_end_of_the_valid_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory);
        fs::write(&path.file, b"good, torn").unwrap();
        let mut log = JournalFile::open(&path, 4).unwrap();
        log.append(b" again", Durability::Machine).unwrap();
        assert_eq!(fs::read(&path.file).unwrap(), b"good again");
    }

    /// full(4): there is never room.
    #[test]
    fn an_append_without_room_adds_nothing() {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = JournalFile { file, length: 7 };
        let error = log.append(b"more", Durability::Machine).unwrap_err();
        assert_eq!(
            (error.kind(), log.length()),
            (io::ErrorKind::StorageFull, 7)
        );
    }
}
