//! What a file system may hold up: reading, within a bound, and threads that nothing waits for.
//!
//! Owns how much of a file is read, and how work that may never end is kept away from the threads that have to go on.
//! Knows no file by name. Invariants: a file that never ends is read up to its bound and no further; neither a stop nor
//! the end of the process waits for a thread of [`aside`].

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use tokio::sync::oneshot;

use crate::system::reserve;

/// The bytes of a file, at most one more than `most`: who gets that many knows that the file is too large.
///
/// # Errors
///
/// When the file cannot be opened or read.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = reserve::retry(|| File::open(path))?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs `work` on a thread of its own and waits for its result without blocking. If the caller stops waiting, the thread
/// goes on alone and its result is dropped there.
///
/// tokio's pool for blocking work will not do: a runtime that is dropped joins it, and a thread that waits for a file
/// system or a name server for minutes takes a place that others need.
///
/// # Errors
///
/// When no thread can be started, or the work panicked.
pub async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (send, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = send.send(work());
        })?;
    result
        .await
        .map_err(|_| io::Error::other("the thread panicked"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_without_an_end_is_read_up_to_its_bound() {
        assert_eq!(read(Path::new("/dev/zero"), 100).unwrap().len(), 101);
        assert!(read(Path::new("/dev/null"), 100).unwrap().is_empty());
        assert!(read(Path::new("/"), 100).is_err());
    }

    #[test]
    fn a_runtime_ends_beside_work_that_does_not() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (finish, wait) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let stuck = aside("stuck", move || wait.recv());
            let waited = tokio::time::timeout(Duration::from_millis(20), stuck).await;
            assert!(waited.is_err());
            assert_eq!(aside("quick", || 7).await.unwrap(), 7);
            assert!(
                aside("panics", || panic!("as the test wants"))
                    .await
                    .is_err()
            );
        });
        drop(runtime);
        // Until here the thread waited.
        finish.send(()).unwrap();
    }
}
