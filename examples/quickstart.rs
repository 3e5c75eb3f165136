//! The smallest useful program: send a few records, read them back, find them again after closing.
//!
//! `cargo run --example quickstart`

use std::time::Duration;

use forebay::{Acks, Broker, Record, Result, Start, TopicConfig};

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join("forebay-quickstart");
    let broker = Broker::open(&dir)?;
    let config = TopicConfig::new().partitions(4);
    let orders = broker.create_topic_if_absent("orders", config)?;

    // Records with the same key go to the same partition and keep their order there.
    for state in ["placed", "paid", "shipped"] {
        let sent = orders.send(Record::new(state).key("order-42").header("shop", "Bergen"))?;
        println!("{state:>8} is partition {} offset {}", sent.partition, sent.offset);
    }

    // A record like any other, but on stable storage when send returns: it survives a power cut.
    orders.send_with(Record::new("delivered").key("order-42"), Acks::Synced)?;
    broker.close()?;

    // What was sent is there when the directory is opened again, now and in the next run.
    let broker = Broker::open(&dir)?;
    let mut reader = broker.reader().topic("orders", Start::Earliest).open()?;
    loop {
        let batch = reader.poll(Duration::from_millis(10))?;
        if batch.is_empty() {
            break;
        }
        for record in &batch {
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
            };
            println!(
                "{}/{}: {} {}",
                record.partition(),
                record.offset(),
                text(record.key()),
                text(record.value())
            );
        }
    }
    println!("kept in {}", dir.display());
    Ok(())
}
