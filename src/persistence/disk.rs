//! The file while it is written.
//!
//! Owns the order of writing, syncing and renaming. Knows nothing of what is in it. Invariants: under the file's name
//! there is always a whole file; what was not written whole is cut off again, as far as the disk lets it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use super::path::{MODE, StorePath};

/// The file, which batches are added to.
pub(super) struct JournalFile {
    file: File,
    length: u64,
}

/// Whether a write has to outlive the machine, or only the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The machine going down, too.
    Machine,
    /// The process alone: the kernel has it.
    Process,
}

impl JournalFile {
    /// Goes on with the file in this place, which is good up to `length`.
    pub(super) fn open(place: &StorePath, length: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(&place.file)?;
        file.set_len(length)?;
        Ok(Self { file, length })
    }

    /// Its length.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds to it, all or nothing. After an error nothing more can be added: what the disk has is not known.
    pub(super) fn append(&mut self, bytes: &[u8], lasting: Durability) -> io::Result<()> {
        let sync = |file: &File| match lasting {
            Durability::Machine => file.sync_data(),
            Durability::Process => Ok(()),
        };
        let written = self
            .file
            .write_all_at(bytes, self.length)
            .and_then(|()| sync(&self.file));
        match &written {
            Ok(()) => self.length += bytes.len() as u64,
            // If that fails, too, the reader finds a torn write.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

/// The next file, under another name until it is whole; removed if it never is.
pub(super) struct NextFile<'a> {
    place: &'a StorePath,
    log: Option<JournalFile>,
}

impl<'a> NextFile<'a> {
    /// Begins it.
    pub(super) fn begin(place: &'a StorePath) -> io::Result<Self> {
        match fs::remove_file(&place.draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(MODE)
            .open(&place.draft)?;
        let log = Some(JournalFile { file, length: 0 });
        Ok(Self { place, log })
    }

    /// Writes the next bytes of it to the disk.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.log {
            Some(log) => log.append(bytes, Durability::Machine),
            None => Ok(()),
        }
    }

    /// Puts it in the place of the file.
    pub(super) fn finish(mut self) -> io::Result<JournalFile> {
        let log = self.log.take().ok_or(io::ErrorKind::NotFound)?;
        let renamed = log
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.place.draft, &self.place.file));
        if let Err(error) = renamed {
            self.log = Some(log);
            return Err(error);
        }
        // Once it is renamed it is the file, whether that is known to last or not.
        if let Err(error) = self.place.sync_directory() {
            tracing::warn!(
                target: "lyncpin::store",
                %error,
                "affinity store: the directory cannot be synced; a power failure may bring an older file back"
            );
        }
        Ok(log)
    }
}

impl Drop for NextFile<'_> {
    fn drop(&mut self) {
        if self.log.is_some() {
            // What is left is removed when the next one begins.
            let _ = fs::remove_file(&self.place.draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn place(directory: &tempfile::TempDir) -> StorePath {
        StorePath::take(&directory.path().join("affinity")).unwrap()
    }

    #[test]
    fn a_draft_is_the_file_once_it_is_whole_and_nothing_before() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(&directory);
        fs::write(&place.file, b"before").unwrap();
        // What a killed process left behind.
        fs::write(&place.draft, b"half of it").unwrap();
        let mut draft = NextFile::begin(&place).unwrap();
        draft.write(b"new").unwrap();
        assert_eq!(fs::read(&place.file).unwrap(), b"before");
        let mut log = draft.finish().unwrap();
        log.append(b", added", Durability::Machine).unwrap();
        log.append(b" to", Durability::Process).unwrap();
        assert_eq!(fs::read(&place.file).unwrap(), b"new, added to");
        assert_eq!(log.length(), 13);
        let mode = fs::metadata(&place.file).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, place.draft.exists()), (0o600, false));
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(&directory);
        fs::write(&place.file, b"before").unwrap();
        let mut draft = NextFile::begin(&place).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert!(!place.draft.exists());
        assert_eq!(fs::read(&place.file).unwrap(), b"before");
    }

    #[test]
    fn a_log_goes_on_where_the_file_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let place = place(&directory);
        fs::write(&place.file, b"good, torn").unwrap();
        let mut log = JournalFile::open(&place, 4).unwrap();
        log.append(b" again", Durability::Machine).unwrap();
        assert_eq!(fs::read(&place.file).unwrap(), b"good again");
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
