//! Reading the file at start.
//!
//! Owns which part of a file is used, and what happens to a file that is not valid. Must not know tables. Invariant: nothing
//! in the file is fatal, and only data with a right checksum is used.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::frame::{FrameError, Frames, VERSION};
use super::path::{OpenError, StorePath};
use super::recovery::Contents;

/// Bytes in one read.
const BUFFER: usize = 256 * 1024;

/// What was read of a file.
#[derive(Default)]
pub(super) struct LoadedFile {
    /// The secret for hashes of sessions; `None` if it could not be read.
    pub(super) secret: Option<[u8; 32]>,
    /// Pins and states.
    pub(super) contents: Contents,
    /// Where the file can be appended to; `None` if it cannot.
    pub(super) good: Option<u64>,
}

/// Reads the file. A file that is not valid is set aside, with a warning.
pub(super) fn load(path: &StorePath) -> Result<LoadedFile, OpenError> {
    let file = &path.file;
    let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    let (loaded, error) = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LoadedFile::default()),
        Err(error) => (LoadedFile::default(), Some(FrameError::Io(error))),
        // Created in advance, for its owner or mode.
        Ok((0, _)) => return Ok(LoadedFile::default()),
        Ok((length, opened)) => read(opened, length),
    };
    match error {
        None => Ok(loaded),
        Some(FrameError::Torn) => {
            tracing::info!(
                target: "lyncpin::store",
                file = %file.display(),
                "affinity store: the last write to the file is incomplete; everything before it is used"
            );
            Ok(loaded)
        }
        Some(error) => {
            let aside = path.set_aside()?;
            warn(file, &aside, &error, loaded.contents.pins().count());
            Ok(LoadedFile {
                good: None,
                ..loaded
            })
        }
    }
}

fn warn(file: &Path, aside: &Path, error: &FrameError, used: usize) {
    let why = match error {
        FrameError::Torn | FrameError::Damaged => {
            "it is damaged; check the disk, and delete the file that was set aside".to_owned()
        }
        FrameError::Foreign => {
            "it is not an affinity store; move it back to its owner, or delete it".to_owned()
        }
        FrameError::Version(version) => format!(
            "it has version {version} and this program reads version {VERSION}; to use it, stop lyncpin, move the file \
             back and run the version of lyncpin that wrote it"
        ),
        FrameError::Io(error) => {
            format!("it cannot be read ({error}); check its owner, its mode and the disk")
        }
    };
    tracing::warn!(
        target: "lyncpin::store",
        file = %file.display(),
        set_aside = %aside.display(),
        pins_used = used,
        why,
        "affinity store: the file was set aside, and a new one was started"
    );
}

/// The valid part, and the error that ends it.
fn read(file: File, length: u64) -> (LoadedFile, Option<FrameError>) {
    let mut loaded = LoadedFile::default();
    let error = match Frames::open(BufReader::with_capacity(BUFFER, file), length) {
        Ok(mut frames) => {
            let error = read_frames(&mut frames, &mut loaded).err();
            loaded.good = Some(frames.good());
            error
        }
        Err(error) => Some(error),
    };
    // The file got its name when its checkpoint was complete, so a crash cannot have cut it before that.
    let error = match error {
        None | Some(FrameError::Torn) if !loaded.contents.is_complete() => {
            Some(FrameError::Damaged)
        }
        error => error,
    };
    (loaded, error)
}

fn read_frames(
    frames: &mut Frames<impl io::Read>,
    loaded: &mut LoadedFile,
) -> Result<(), FrameError> {
    let secret = frames
        .next()?
        .and_then(|head| head.first_chunk::<32>().copied());
    loaded.secret = Some(secret.ok_or(FrameError::Damaged)?);
    loop {
        // What is appended after damage would be lost with it, so the valid part ends before a malformed batch.
        match frames.next()? {
            Some(payload) => loaded
                .contents
                .apply(payload)
                .map_err(|_| FrameError::Damaged)?,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::clock::Stamp;
    use super::super::encoder::{Encoder, head};
    use super::super::records::StateRecord;
    use super::*;
    use crate::affinity::record::{KeyScheme, PinGroup};
    use crate::types::backend_state::AdminState;

    /// A checkpoint with a state, then two batches with another one each; and where each ends.
    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = head(&[7; 32]);
        let mut encoder = Encoder::new(Stamp::now());
        let mut ends = Vec::new();
        for number in 0..3_u64 {
            let stamp = Stamp {
                since_boot: number,
                ..Stamp::now()
            };
            encoder.begin(stamp);
            encoder.group(&PinGroup {
                name: "web".into(),
                keys: KeyScheme::from_bytes([3, 32, 64]),
            });
            encoder.state(&StateRecord {
                pool: "web".into(),
                backend: format!("fe0{number}").into(),
                state: AdminState::Drain,
                left: Some(number),
            });
            if number == 0 {
                encoder.end_checkpoint();
            }
            bytes.extend(encoder.finish());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// What is read of these bytes, and the files that were set aside.
    fn load_bytes(bytes: &[u8]) -> (LoadedFile, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        std::fs::write(&path, bytes).unwrap();
        let store_path = StorePath::lock(&path).unwrap();
        let loaded = load(&store_path).unwrap();
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let aside: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("unreadable"))
            .collect();
        for path in &aside {
            assert_eq!(std::fs::read(path).unwrap(), bytes);
        }
        (loaded, aside)
    }

    fn states(loaded: &LoadedFile) -> usize {
        loaded.contents.states().count()
    }

    #[test]
    fn a_valid_file_is_read_and_remains() {
        let (bytes, _) = file();
        let (loaded, aside) = load_bytes(&bytes);
        assert_eq!(
            (loaded.secret, states(&loaded), aside.len()),
            (Some([7; 32]), 3, 0)
        );
        assert_eq!(loaded.good, Some(bytes.len() as u64));
    }

    #[test]
    fn no_file_and_an_empty_one_are_a_new_store() {
        let (loaded, aside) = load_bytes(b"");
        assert_eq!((loaded.secret, loaded.good, aside.len()), (None, None, 0));
        let directory = tempfile::tempdir().unwrap();
        let store_path = StorePath::lock(&directory.path().join("affinity")).unwrap();
        assert_eq!(load(&store_path).unwrap().good, None);
    }

    /// At every byte of what was appended: a write can be cut off anywhere.
    #[test]
    fn a_torn_write_loses_only_itself() {
        let (bytes, ends) = file();
        for length in ends[0]..bytes.len() {
            let (loaded, aside) = load_bytes(&bytes[..length]);
            let whole = ends.iter().rposition(|&end| end <= length).unwrap();
            assert_eq!((states(&loaded), aside.len()), (whole + 1, 0), "{length}");
            assert_eq!(loaded.good, Some(ends[whole] as u64));
        }
    }

    #[test]
    fn a_file_with_an_incomplete_checkpoint_is_set_aside() {
        let (bytes, ends) = file();
        for length in 1..ends[0] {
            let (loaded, aside) = load_bytes(&bytes[..length]);
            assert_eq!((loaded.good, aside.len()), (None, 1), "{length}");
        }
    }

    #[test]
    fn after_a_flipped_bit_the_file_is_set_aside_and_the_part_before_it_is_used() {
        let (bytes, ends) = file();
        for byte in 0..ends[1] {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 0x10;
            let (loaded, aside) = load_bytes(&flipped);
            let whole = ends
                .iter()
                .rposition(|&end| end <= byte)
                .map_or(0, |at| at + 1);
            assert_eq!((states(&loaded), aside.len()), (whole, 1), "{byte}");
            assert_eq!(loaded.good, None);
        }
    }

    #[test]
    fn a_file_that_the_kernel_cannot_read_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let store_path = StorePath::lock(&path).unwrap();
        // Root can open every file, but not read a directory that was created meanwhile.
        std::fs::create_dir(&path).unwrap();
        let loaded = load(&store_path).unwrap();
        assert_eq!(
            (loaded.secret, loaded.good, path.exists()),
            (None, None, false)
        );
    }
}
