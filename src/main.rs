#![allow(clippy::unwrap_used, reason = "provisional")]
//! provisional
use std::sync::Arc;
fn main() {
    let file = std::env::args().next_back().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let loaded = match lyncpin::config::read(&text, &file) {
        Ok(l) => l,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2)
        }
    };
    let registry = lyncpin::metrics::Registry::default();
    let (sink, _w) = lyncpin::log::Sink::stderr(
        loaded.config.log.format,
        registry.counter(&lyncpin::metrics::definitions::LOG_LINES_LOST, &[]),
    )
    .unwrap();
    let log = Arc::new(lyncpin::log::Log::new(loaded.config.log, sink));
    log.take_events(tracing::Level::INFO);
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async {
        let server = lyncpin::server::Server::start(loaded.config, log, registry.clone()).unwrap();
        tokio::signal::ctrl_c().await.unwrap();
        server
            .stop(async { tokio::signal::ctrl_c().await.unwrap() })
            .await;
        println!("{}", registry.render());
    });
}
