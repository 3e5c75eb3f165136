//! What a mapping could meet with a signal alone is an error where nothing is mapped.

use std::path::Path;
use std::process::Command;

use forebay::{Broker, Error, FileAccess, Record, Result, Start, TopicConfig};

const DIR: &str = "FOREBAY_WITHOUT_MAPPINGS";
const RECORDS: usize = 150;

fn open(dir: &Path) -> Result<Broker> {
    Broker::builder(dir).file_access(FileAccess::Calls).open()
}

/// A few segments, of which the last is being written.
fn fill(dir: &Path) -> Broker {
    let broker = open(dir).expect("open");
    let topic = broker.create_topic("t", TopicConfig::new().segment_bytes(8192)).expect("create");
    for _ in 0..RECORDS {
        topic.send(Record::new(&[7; 1000])).expect("send");
    }
    topic.flush().expect("flush");
    broker
}

/// How many records there are before something is wrong.
fn read(broker: &Broker) -> (usize, Option<Error>) {
    let mut count = 0;
    let mut reader = match broker.reader().topic("t", Start::Earliest).open() {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    loop {
        match reader.try_poll() {
            Ok(batch) if batch.is_empty() => return (count, None),
            Ok(batch) => count += batch.len(),
            Err(error) => return (count, Some(error)),
        }
    }
}

#[test]
fn a_file_that_somebody_cuts_is_an_error_without_mappings() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let broker = fill(dir.path());
    assert_eq!(read(&broker).0, RECORDS);
    let mut cut = 0;
    for entry in std::fs::read_dir(dir.path().join("topics/t/0")).expect("list") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|end| end == "log") {
            let file = std::fs::File::options().write(true).open(&path).expect("open");
            file.set_len(100).expect("cut");
            cut += 1;
        }
    }
    assert!(cut > 3, "{cut} segments");
    let (count, error) = read(&broker);
    assert!(count < RECORDS && matches!(error, Some(Error::Corrupt { .. })), "{count} {error:?}");
    let topic = broker.topic("t").expect("topic");
    for _ in 0..RECORDS {
        topic.send(Record::new(&[7; 1000])).expect("what is written next is another file's");
    }
}

#[test]
#[ignore = "run by the test below, in a process that is traced"]
fn reader_of_a_bad_disk() {
    let Ok(dir) = std::env::var(DIR) else { return };
    match open(Path::new(&dir)) {
        Err(error) => println!("refused: {error}"),
        Ok(broker) => {
            let (count, error) = read(&broker);
            println!("{count} records, then {error:?}");
            assert!(matches!(error, Some(Error::Io { .. }) | None), "{error:?}");
        }
    }
}

#[test]
#[ignore = "needs strace: see tests/README.md"]
fn a_disk_that_cannot_be_read_is_an_error_without_mappings() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("SKIPPED: there is no strace");
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    fill(dir.path()).close().expect("close");
    let mut errors = 0;
    for at in 3..20 {
        let inject = format!("inject=pread64:error=EIO:when={at}+");
        let output = Command::new("strace")
            .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=pread64"])
            .args(["-e", &inject])
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", "reader_of_a_bad_disk", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .output()
            .expect("strace");
        let said = String::from_utf8_lossy(&output.stdout);
        // The first ones are the loader's, which ends by itself.
        if output.status.code() == Some(127) {
            continue;
        }
        assert!(output.status.success(), "pread64 {at}: {} {said}", output.status);
        errors += usize::from(said.contains("records, then Some(Io"));
    }
    assert!(errors > 2, "{errors} reads failed");
}
