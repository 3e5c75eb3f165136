//! `env_logger`, whose pipe is one writer under a lock, flushed after each event.

use std::time::{Duration, Instant};

use env_logger::{Builder, Target};
use forebay::{Broker, TopicConfig, WhenRefused};
use forebay_log_writers::{EVENTS, THREADS, check, log_from_threads, values};
use log::LevelFilter;

#[test]
fn each_event_is_a_record_also_while_the_broker_logs_there_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = Broker::open(dir.path()).expect("open");
    // Small segments: the broker says that it has sealed one, some hundred times.
    let config = TopicConfig::new().segment_bytes(8 << 10);
    let topic = broker.create_topic("log", config).expect("create");
    let writer = topic.writer().when_refused(WhenRefused::Drop).key("host-1");
    Builder::new()
        .filter_level(LevelFilter::Debug)
        .target(Target::Pipe(Box::new(writer.clone())))
        .init();

    let before = Instant::now();
    log_from_threads(|name, number| {
        log::info!("event={name}/{number}. {} the end", "x".repeat(number % 200));
    });
    let took = before.elapsed();
    println!("{:.1} µs an event", took.as_secs_f64() * 1e6 / (THREADS * EVENTS) as f64);

    // The broker's own events come when it has the time for them.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(writer.dropped(), 0);
    let (own, others): (Vec<_>, Vec<_>) =
        values(&broker, "log").into_iter().partition(|value| value.contains("event="));
    check(&own, "the end");
    assert!(others.len() > 10, "the broker has logged");
    for value in &others {
        assert!(value.contains("forebay") && value.contains("sealed"), "{value:?}");
    }
    broker.close().expect("close");
    // What is logged from here on has nowhere to go and is counted.
    log::info!("too late");
    assert!(writer.dropped() > 0);
}
