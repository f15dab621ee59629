//! What processes cost: processor time, memory, descriptors.

use std::fs;
use std::io;
use std::time::Duration;

/// Processor time of these processes so far, all threads, in user and kernel mode.
///
/// From `schedstat`, which counts nanoseconds; `stat` counts hundredths of a second.
pub(crate) fn processor_time(pids: &[u32]) -> io::Result<Duration> {
    let mut sum = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended since; the time of those is lost, and no balancer here starts and ends threads.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
            sum += nanoseconds.unwrap_or(0_u64);
        }
    }
    Ok(Duration::from_nanos(sum))
}

/// Proportional set size in KiB: what is resident, shared pages by their share.
pub(crate) fn memory_kib(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        sum += kib.ok_or_else(|| io::Error::other("smaps_rollup has no Pss"))?;
    }
    Ok(sum)
}

/// Open descriptors.
pub(crate) fn descriptors(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        sum += fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    }
    Ok(sum)
}
