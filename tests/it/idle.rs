//! Thousands of idle connections cost two descriptors each, little memory and no CPU time.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::own_address;
use crate::support::peers::{
    Backend, ask, connect_from, entries, is_alive, pair, raise_descriptors,
};

/// Their four ends use 16,000 descriptors, half of them in this process.
const CONNECTIONS: usize = 4000;

#[test]
fn four_thousand_idle_connections_hold_two_descriptors_each_and_no_pipe_and_use_no_cpu() {
    let allowed = raise_descriptors();
    assert!(
        allowed >= 12_000,
        "{allowed} descriptors are too few: raise the hard limit (ulimit -Hn)"
    );
    let backends = Backend::several(2);
    let balancer = Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ {}, health: none }} }}\nworkers: 2",
        entries(&backends)
    ));
    // The first connections allocate buffers and tables that all later ones share.
    let sources: Vec<IpAddr> = (0..40).map(|_| own_address()).collect();
    let connect_client = |number: usize| -> TcpStream {
        let client = connect_from(sources[number % sources.len()], balancer.at(5000)).unwrap();
        ask(&client, b"?").unwrap();
        client
    };
    drop((0..sources.len()).map(connect_client).collect::<Vec<_>>());
    let active = || balancer.metric("lyncpin_connections_active", &[]);
    eventually("all connections have ended", || {
        (active() == 0.0).then_some(())
    });
    let (before, resident) = (stable_descriptors(&balancer), balancer.resident_kib());

    let all: Vec<TcpStream> = (0..CONNECTIONS).map(connect_client).collect();
    let mut expected = before.clone();
    *expected.get_mut("socket").unwrap() += 2 * CONNECTIONS;
    eventually("each connection holds two sockets and nothing else", || {
        (balancer.descriptors() == expected).then_some(())
    });
    let grown = balancer.resident_kib().saturating_sub(resident) * 1024;
    let each = grown / CONNECTIONS as u64;
    println!("{each} bytes of resident memory for each of {CONNECTIONS} connections");
    assert!(each < 8 * 1024, "{each} bytes each");

    // Real time must pass: after five seconds each connection gets its socket options, once.
    std::thread::sleep(Duration::from_secs(6));
    eventually("two idle seconds use at most two ticks", || {
        let begun = ticks(&balancer);
        std::thread::sleep(Duration::from_secs(2));
        (ticks(&balancer) - begun <= 2).then_some(())
    });

    assert!(all.iter().step_by(97).all(is_alive));
    drop(all);
    eventually("all connections have ended", || {
        (active() == 0.0).then_some(())
    });
    eventually("all descriptors are closed", || {
        (balancer.descriptors() == before).then_some(())
    });
}

/// The descriptors of the balancer once they no longer change: admin requests of the harness have ended too.
fn stable_descriptors(balancer: &Balancer) -> BTreeMap<String, usize> {
    let mut last = (balancer.descriptors(), 0);
    eventually("the descriptors no longer change", || {
        let now = balancer.descriptors();
        let times = if now == last.0 { last.1 + 1 } else { 0 };
        last = (now, times);
        (times == 20).then(|| last.0.clone())
    })
}

/// Processor time so far, in hundredths of a second (proc(5): utime and stime).
fn ticks(balancer: &Balancer) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", balancer.pid())).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields[number - 3].parse::<u64>().unwrap();
    field(14) + field(15)
}

#[test]
fn pipes_are_released_when_a_stream_is_idle() {
    let backends = Backend::several(1);
    let balancer = Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ {}, health: none }} }}\nworkers: 1",
        entries(&backends)
    ));
    let pipes = || balancer.descriptors().get("pipe").copied().unwrap_or(0);
    let before = pipes();
    let streamed: Vec<TcpStream> = (0..50)
        .map(|_| {
            let client = connect_from(own_address(), balancer.at(5000)).unwrap();
            ask(&client, b"?").unwrap();
            let mut line = vec![b'x'; 300_000];
            line.push(b'\n');
            // The echo arrives while the line is still being sent.
            std::thread::scope(|threads| {
                threads.spawn(|| std::io::Write::write_all(&mut &client, &line).unwrap());
                let mut read = vec![0; line.len()];
                std::io::Read::read_exact(&mut &client, &mut read).unwrap();
                assert_eq!(read, line);
            });
            client
        })
        .collect();
    assert!(balancer.metric("lyncpin_bytes_total", &["path=\"spliced\""]) > 0.0);
    // Streams ran one at a time, in two directions: two pipes with two ends each.
    let kept = pipes() - before;
    assert!(kept <= 4, "{kept} ends of pipes");
    assert!(streamed.iter().all(is_alive));
}

/// For each stalled reader the balancer holds the rest of one read.
#[test]
fn memory_of_stalled_readers_is_released_when_they_resume() {
    const READERS: usize = 1000;
    raise_descriptors();
    let server = std::net::TcpListener::bind((own_address(), 7000)).unwrap();
    let balancer = Balancer::start(&format!(
        "listeners: {{ tcp: {{ bind: [\"HOST:5000\"], protocol: tcp, pool: web }} }}\n\
         pools: {{ web: {{ backends: [\"{}\"], health: none, affinity: none }} }}\nworkers: 1",
        server.local_addr().unwrap()
    ));
    let pairs: Vec<(TcpStream, TcpStream)> = (0..READERS)
        .map(|_| pair(balancer.at(5000), &server, b"?"))
        .collect();
    for (client, backend) in &pairs {
        client.set_nonblocking(true).unwrap();
        backend.set_nonblocking(true).unwrap();
    }
    let before = balancer.resident_kib();
    // The balancer reads small writes without a pipe.
    let write_some = |stream: &TcpStream| {
        let written = std::io::Write::write(&mut &*stream, &[7; 4000]);
        written.unwrap_or(0)
    };
    let mut sent = 0;
    let mut quiet = 0;
    while quiet < 5 {
        let more: usize = pairs.iter().map(|(_, backend)| write_some(backend)).sum();
        sent += more;
        quiet = if more == 0 { quiet + 1 } else { 0 };
        if more == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let stalled = balancer.resident_kib() - before;
    println!("{stalled} KiB for {READERS} stalled readers");
    // 16 KiB each, or 64 KiB if the balancer lagged behind: then small writes form a stream, and all pipes are in use.
    // The allocator retains some memory too.
    assert!(stalled < 72 * READERS as u64, "{stalled} KiB");
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    eventually("everything has arrived", || {
        for (client, _) in &pairs {
            while let Ok(read @ 1..) = std::io::Read::read(&mut &*client, &mut buffer) {
                received += read;
            }
        }
        (received == sent).then_some(())
    });
    let left = eventually("the memory is released", || {
        let left = balancer.resident_kib().saturating_sub(before);
        (left < 4096).then_some(left)
    });
    println!("{left} KiB afterwards");
    drop(pairs);
}
