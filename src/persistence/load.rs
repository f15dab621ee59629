//! Reading the file at start.
//!
//! Owns what is used of a file and what becomes of one that is not sound. Knows no table. Invariant: nothing in the file
//! is fatal, and what is used has had its checksums held.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::frame::{FrameError, Frames, VERSION};
use super::path::{OpenError, StorePath};
use super::recovery::Contents;

/// Read at once.
const BUFFER: usize = 256 * 1024;

/// What a file came to.
#[derive(Default)]
pub(super) struct LoadedFile {
    /// The secret that hashes of sessions were made with; `None` where none could be read.
    pub(super) secret: Option<[u8; 32]>,
    /// What was kept.
    pub(super) contents: Contents,
    /// Where the file can be added to; `None` where there is none.
    pub(super) good: Option<u64>,
}

/// Reads what is in the place; a file that is not sound is set aside, and said so.
pub(super) fn load(place: &StorePath) -> Result<LoadedFile, OpenError> {
    let file = &place.file;
    let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    let (loaded, fault) = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LoadedFile::default()),
        Err(error) => (LoadedFile::default(), Some(FrameError::Io(error))),
        // Someone made it, for its owner or mode.
        Ok((0, _)) => return Ok(LoadedFile::default()),
        Ok((length, opened)) => read(opened, length),
    };
    match fault {
        None => Ok(loaded),
        Some(FrameError::Torn) => {
            tracing::info!(
                target: "lyncpin::store",
                file = %file.display(),
                "affinity store: the last write to the file was cut off; what came before it is used"
            );
            Ok(loaded)
        }
        Some(fault) => {
            let aside = place.set_aside()?;
            warn(file, &aside, &fault, loaded.contents.pins().count());
            Ok(LoadedFile {
                good: None,
                ..loaded
            })
        }
    }
}

fn warn(file: &Path, aside: &Path, fault: &FrameError, used: usize) {
    let why = match fault {
        FrameError::Torn | FrameError::Damaged => {
            "it is damaged; look at the disk, and delete the file that was set aside".to_owned()
        }
        FrameError::Foreign => {
            "it is no affinity store; give it back to whom it belongs, or delete it".to_owned()
        }
        FrameError::Version(version) => format!(
            "it is of version {version} and this program reads version {VERSION}; to use it, stop, move it back \
             and run the program that wrote it"
        ),
        FrameError::Io(error) => {
            format!("it cannot be read ({error}); look at its owner, its mode and the disk")
        }
    };
    tracing::warn!(
        target: "lyncpin::store",
        file = %file.display(),
        set_aside = %aside.display(),
        pins_used = used,
        why,
        "affinity store: the file was set aside, and a new one is begun"
    );
}

/// As much as can be believed, and what is wrong with the rest.
fn read(file: File, length: u64) -> (LoadedFile, Option<FrameError>) {
    let mut loaded = LoadedFile::default();
    let fault = match Frames::open(BufReader::with_capacity(BUFFER, file), length) {
        Ok(mut frames) => {
            let fault = read_frames(&mut frames, &mut loaded).err();
            loaded.good = Some(frames.good());
            fault
        }
        Err(fault) => Some(fault),
    };
    // The file got its name when it was whole, so no crash has cut it there.
    let fault = match fault {
        None | Some(FrameError::Torn) if !loaded.contents.is_whole() => Some(FrameError::Damaged),
        fault => fault,
    };
    (loaded, fault)
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
        // What was added to after a damage would be lost with it: a malformed batch is where the good part ends.
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
    use super::super::encoder::{Encoder, Shape, head};
    use super::*;

    /// A picture with a state, then two batches with another one each; and where each ends.
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
            encoder.group(&Shape {
                name: "web".into(),
                keys: crate::affinity::table::KeyScheme::from_bytes([3, 32, 64]),
            });
            encoder.state(
                &"web".into(),
                &format!("fe0{number}").into(),
                1,
                Some(number),
            );
            if number == 0 {
                encoder.whole();
            }
            bytes.extend(encoder.finish());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// What is read of these bytes: the states, whether the secret was, and the files that were set aside.
    fn load_bytes(bytes: &[u8]) -> (LoadedFile, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        std::fs::write(&path, bytes).unwrap();
        let place = StorePath::take(&path).unwrap();
        let loaded = load(&place).unwrap();
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
    fn a_sound_file_is_read_and_stays() {
        let (bytes, _) = file();
        let (loaded, aside) = load_bytes(&bytes);
        assert_eq!(
            (loaded.secret, states(&loaded), aside.len()),
            (Some([7; 32]), 3, 0)
        );
        assert_eq!(loaded.good, Some(bytes.len() as u64));
    }

    #[test]
    fn no_file_and_an_empty_one_are_a_beginning() {
        let (loaded, aside) = load_bytes(b"");
        assert_eq!((loaded.secret, loaded.good, aside.len()), (None, None, 0));
        let directory = tempfile::tempdir().unwrap();
        let place = StorePath::take(&directory.path().join("affinity")).unwrap();
        assert_eq!(load(&place).unwrap().good, None);
    }

    /// At every byte of what was added: a write can be cut off anywhere.
    #[test]
    fn a_torn_write_costs_what_it_wrote() {
        let (bytes, ends) = file();
        for length in ends[0]..bytes.len() {
            let (loaded, aside) = load_bytes(&bytes[..length]);
            let whole = ends.iter().rposition(|&end| end <= length).unwrap();
            assert_eq!((states(&loaded), aside.len()), (whole + 1, 0), "{length}");
            assert_eq!(loaded.good, Some(ends[whole] as u64));
        }
    }

    #[test]
    fn a_picture_that_was_cut_is_damage_and_is_set_aside() {
        let (bytes, ends) = file();
        for length in 1..ends[0] {
            let (loaded, aside) = load_bytes(&bytes[..length]);
            assert_eq!((loaded.good, aside.len()), (None, 1), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_batch_sets_the_file_aside_and_what_is_before_it_is_used() {
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
    fn a_file_that_the_kernel_does_not_give_out_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("affinity");
        let place = StorePath::take(&path).unwrap();
        // As root every file can be opened; a directory that came in between cannot be read.
        std::fs::create_dir(&path).unwrap();
        let loaded = load(&place).unwrap();
        assert_eq!(
            (loaded.secret, loaded.good, path.exists()),
            (None, None, false)
        );
    }
}
