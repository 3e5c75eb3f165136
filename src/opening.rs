//! What is to be done before a broker is open: the directory is locked, its topics are opened, and what
//! groups have committed in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::check_topic_name;
use crate::description::{PartitionRecovery, RecoveryReport};
use crate::error::{Error, Result};
use crate::group::OffsetStore;
use crate::recovery_mode::HowToOpen;
use crate::storage::read_only::ReadOnly;
use crate::storage::{LockGuard, Storage, remove_tree};
use crate::topic::{Surroundings, TopicState, is_unfinished};

/// Held by the owner of the directory.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// Takes the directory's lock.
pub(crate) fn lock(storage: &dyn Storage, dir: &Path) -> Result<LockGuard> {
    let path = dir.join(LOCK_FILE);
    let owner = std::process::id().to_string();
    let locked =
        storage.lock(&path, &owner).map_err(|error| Error::space("locking", &path, 0, error))?;
    locked.ok_or_else(|| {
        let text = storage.read(&path, 32).unwrap_or_default();
        let pid = String::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
        Error::Locked { path: dir.to_path_buf(), pid }
    })
}

/// Opens what groups have committed in these topics.
pub(crate) fn open_offsets(
    around: &Surroundings,
    dir: PathBuf,
    topics: &Topics,
) -> Result<Arc<OffsetStore>> {
    let is_topic =
        |name: &str, id: u64| topics.get(name).is_some_and(|topic| topic.shape().id == id);
    let store = OffsetStore::open(
        &around.storage,
        &around.background,
        dir,
        around.how.read_only,
        is_topic,
    )?;
    Ok(Arc::new(store))
}

/// Opens everything and changes nothing, so that the error with which a strict opening ends comes
/// before anything was changed: in what is sound, and was read before what is not, too.
pub(crate) fn rehearse(around: &Surroundings, topics: &Path, offsets: PathBuf) -> Result<()> {
    let storage: Arc<dyn Storage> = Arc::new(ReadOnly(Arc::clone(&around.storage)));
    let how = HowToOpen { read_only: true, ..around.how };
    let around = Surroundings { storage, how, ..around.clone() };
    let (topics, _) = open_topics(&around, topics)?;
    open_offsets(&around, offsets, &topics).map(drop)
}

/// The open topics of a broker, by name.
pub(crate) type Topics = BTreeMap<Arc<str>, Arc<TopicState>>;

/// Opens every topic, and removes what interrupted creations and deletions left.
pub(crate) fn open_topics(around: &Surroundings, dir: &Path) -> Result<(Topics, RecoveryReport)> {
    let mut topics = Topics::new();
    let mut report = RecoveryReport::default();
    // Whoever made these topics may have failed to make them durable; what is used must be.
    around.storage.sync_dir(dir).map_err(|error| Error::io("syncing directory", dir, error))?;
    let mut entries =
        around.storage.list(dir).map_err(|error| Error::io("listing directory", dir, error))?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    for entry in entries {
        let path = dir.join(&entry.name);
        if is_unfinished(&entry.name) {
            if around.how.read_only {
                continue;
            }
            remove_tree(&*around.storage, &path)
                .map_err(|error| Error::io("removing leftover", &path, error))?;
        } else if entry.is_dir && check_topic_name(&entry.name).is_ok() {
            let (topic, recoveries) = TopicState::open(around, dir, &entry.name)?;
            let describe =
                |(number, recovery)| PartitionRecovery::of(&entry.name, number, recovery);
            report.partitions.extend(recoveries.into_iter().map(describe));
            topics.insert(Arc::clone(topic.name()), Arc::new(topic));
        } else {
            log::warn!("{} is not a topic and is left alone", path.display());
        }
    }
    Ok((topics, report))
}
