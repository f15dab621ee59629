//! Thousands of connections at rest cost two descriptors each, little memory and no time.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use crate::support::balancer::Balancer;
use crate::support::eventually;
use crate::support::own_address;
use crate::support::peers::{
    Backend, ask, connect_from, entries, is_alive, pair, raise_descriptors,
};

/// Their four ends are 16,000 descriptors, half of them in this process.
const CONNECTIONS: usize = 4000;

#[test]
fn four_thousand_idle_connections_hold_two_descriptors_each_and_no_pipe_and_take_no_time() {
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
    // Buffers and tables that the first connections bring about are not theirs alone.
    let sources: Vec<IpAddr> = (0..40).map(|_| own_address()).collect();
    let come = |number: usize| -> TcpStream {
        let client = connect_from(sources[number % sources.len()], balancer.at(5000)).unwrap();
        ask(&client, b"?").unwrap();
        client
    };
    drop((0..sources.len()).map(come).collect::<Vec<_>>());
    let active = || balancer.metric("lyncpin_connections_active", &[]);
    eventually("all have ended", || (active() == 0.0).then_some(()));
    let (before, resident) = (at_rest(&balancer), balancer.resident_kib());

    let all: Vec<TcpStream> = (0..CONNECTIONS).map(come).collect();
    let mut wanted = before.clone();
    *wanted.get_mut("socket").unwrap() += 2 * CONNECTIONS;
    eventually("each holds two sockets, and nothing else is held", || {
        (balancer.descriptors() == wanted).then_some(())
    });
    let grown = balancer.resident_kib().saturating_sub(resident) * 1024;
    let each = grown / CONNECTIONS as u64;
    println!("{each} bytes of resident memory for each of {CONNECTIONS} connections");
    assert!(each < 8 * 1024, "{each} bytes each");

    // Time is the subject. When they have lived five seconds each gets its socket options, once.
    std::thread::sleep(Duration::from_secs(6));
    eventually("two seconds of rest take at most two ticks", || {
        let begun = ticks(&balancer);
        std::thread::sleep(Duration::from_secs(2));
        (ticks(&balancer) - begun <= 2).then_some(())
    });

    assert!(all.iter().step_by(97).all(is_alive));
    drop(all);
    eventually("all have ended", || (active() == 0.0).then_some(()));
    eventually("everything is given back", || {
        (balancer.descriptors() == before).then_some(())
    });
}

/// Its descriptors once nothing comes or goes: the admin listener's answer to the harness is over, too.
fn at_rest(balancer: &Balancer) -> BTreeMap<String, usize> {
    let mut last = (balancer.descriptors(), 0);
    eventually("the descriptors stay as they are", || {
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
fn pipes_go_back_when_a_stream_rests() {
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
            // It comes back while it goes.
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
    // One stream at a time ran, two directions: two pipes of two ends.
    let kept = pipes() - before;
    assert!(kept <= 4, "{kept} ends of pipes");
    assert!(streamed.iter().all(is_alive));
}

/// Stalled readers, of each kind of bytes on their way: the balancer holds the rest of one read for each.
#[test]
fn the_memory_of_stalled_readers_goes_back_when_they_read_on() {
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
    // Small writes are no stream, so no pipe holds them.
    let said = |stream: &TcpStream| {
        let written = std::io::Write::write(&mut &*stream, &[7; 4000]);
        written.unwrap_or(0)
    };
    let mut sent = 0;
    let mut quiet = 0;
    while quiet < 5 {
        let more: usize = pairs.iter().map(|(_, backend)| said(backend)).sum();
        sent += more;
        quiet = if more == 0 { quiet + 1 } else { 0 };
        if more == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let stalled = balancer.resident_kib() - before;
    println!("{stalled} KiB for {READERS} stalled readers");
    // 16 KiB each; 64 where the balancer has lagged behind, so that small writes have come together to a stream, and all
    // pipes are lent. The allocator keeps some of its own.
    assert!(stalled < 72 * READERS as u64, "{stalled} KiB");
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 20];
    eventually("everything has come", || {
        for (client, _) in &pairs {
            while let Ok(read @ 1..) = std::io::Read::read(&mut &*client, &mut buffer) {
                heard += read;
            }
        }
        (heard == sent).then_some(())
    });
    let left = eventually("the memory is given back", || {
        let left = balancer.resident_kib().saturating_sub(before);
        (left < 4096).then_some(left)
    });
    println!("{left} KiB afterwards");
    drop(pairs);
}
