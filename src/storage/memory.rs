//! A file system on the heap, for brokers that keep nothing and as the body of the simulated disk.
//!
//! A tree of nodes with identities, as a real file system has inodes: a renamed directory is the
//! same directory, a removed file lives on for whoever holds it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DirEntry, LockGuard, Region, RegionWriter, Space, Storage, StorageFile, split_mix};
use crate::sync::Mutex;

/// The identity of a file or directory.
pub(super) type NodeId = u64;
/// The directory at the top, which always exists.
pub(super) const ROOT: NodeId = 0;

#[derive(Debug)]
pub(super) enum Node {
    Dir(BTreeMap<String, NodeId>),
    File(Arc<MemoryFile>),
}

/// Files and directories on the heap.
#[derive(Debug)]
pub(crate) struct MemoryStorage {
    tree: Mutex<Tree>,
    locks: Arc<Mutex<HashSet<PathBuf>>>,
    /// The state of the random sequence; only fetched and added to, publishes nothing.
    random: AtomicU64,
}

#[derive(Debug)]
struct Tree {
    nodes: HashMap<NodeId, Node>,
    next_id: NodeId,
}

impl MemoryStorage {
    /// An empty file system; `seed` is where its random numbers begin.
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_nodes(seed, HashMap::from([(ROOT, Node::Dir(BTreeMap::new()))]))
    }

    /// A file system that holds `nodes`, `ROOT` among them.
    pub(super) fn with_nodes(seed: u64, nodes: HashMap<NodeId, Node>) -> Self {
        let next_id = nodes.keys().max().map_or(ROOT, |id| id + 1);
        Self {
            tree: Mutex::new(Tree { nodes, next_id }),
            locks: Arc::default(),
            random: AtomicU64::new(seed),
        }
    }

    /// The identity of what stands at `path`.
    pub(super) fn id(&self, path: &Path) -> io::Result<NodeId> {
        self.tree.lock().find(path)
    }

    /// The identity of the directory that holds `path`, and the name in it.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        self.tree.lock().find_parent(path)
    }

    /// How long all files are together, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let length = |node: &Node| match node {
            Node::File(file) => file.len().unwrap_or(0),
            Node::Dir(_) => 0,
        };
        self.tree.lock().nodes.values().map(length).sum()
    }

    /// The file at `path`.
    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.tree.lock().file(path)
    }
}

impl Tree {
    fn find(&self, path: &Path) -> io::Result<NodeId> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self.dir(at)?.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn find_parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let name = names(path).pop().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok((parent, name))
    }

    fn dir(&self, id: NodeId) -> io::Result<&BTreeMap<String, NodeId>> {
        match self.nodes.get(&id) {
            Some(Node::Dir(entries)) => Ok(entries),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir_mut(&mut self, id: NodeId) -> io::Result<&mut BTreeMap<String, NodeId>> {
        match self.nodes.get_mut(&id) {
            Some(Node::Dir(entries)) => Ok(entries),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        match self.nodes.get(&self.find(path)?) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<NodeId> {
        let (parent, name) = self.find_parent(path)?;
        let id = self.next_id;
        let entries = self.dir_mut(parent)?;
        if entries.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        entries.insert(name, id);
        self.nodes.insert(id, node);
        self.next_id += 1;
        Ok(id)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.find_parent(path)?;
        let id = self.dir_mut(parent)?.remove(&name).ok_or(io::ErrorKind::NotFound)?;
        self.nodes.remove(&id);
        Ok(())
    }
}

/// The names that lead from the root to `path`. There is one tree, so a leading `/` means nothing.
fn names(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

impl Storage for MemoryStorage {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let mut at = PathBuf::new();
        for name in names(path) {
            at.push(name);
            if let Err(error) = tree.add(&at, Node::Dir(BTreeMap::new()))
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.tree.lock().add(path, Node::Dir(BTreeMap::new())).map(|_| ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let tree = self.tree.lock();
        let entries = tree.dir(tree.find(path)?)?;
        let describe = |(name, id): (&String, &NodeId)| match tree.nodes.get(id) {
            Some(Node::File(file)) => {
                Some(DirEntry { name: name.clone(), is_dir: false, len: file.len_now() })
            }
            Some(Node::Dir(_)) => Some(DirEntry { name: name.clone(), is_dir: true, len: 0 }),
            None => None,
        };
        Ok(entries.iter().filter_map(describe).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = Arc::new(MemoryFile::new(Vec::new()));
        self.tree.lock().add(path, Node::File(Arc::clone(&file)))?;
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(path)?)
    }

    fn map(&self, path: &Path) -> io::Result<Arc<Region>> {
        self.file(path)?.map_reader()
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let file = self.file(path)?;
        if file.len_now() > max_bytes {
            return Err(super::disk::too_long(file.len_now(), max_bytes));
        }
        Ok(file.snapshot())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn StorageFile>> {
        if self.id(path).is_err() {
            self.create(path)?;
        }
        let file = self.file(path)?;
        *file.content.lock() = Content::Bytes(bytes.to_vec());
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let (from_dir, from_name) = tree.find_parent(from)?;
        let (to_dir, to_name) = tree.find_parent(to)?;
        let occupied = tree.dir(to_dir)?.get(&to_name).copied();
        if let Some(Node::Dir(entries)) = occupied.and_then(|id| tree.nodes.get(&id))
            && !entries.is_empty()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let id = tree.dir_mut(from_dir)?.remove(&from_name).ok_or(io::ErrorKind::NotFound)?;
        if let Some(replaced) = tree.dir_mut(to_dir)?.insert(to_name, id) {
            tree.nodes.remove(&replaced);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree.lock();
        tree.file(path)?;
        tree.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree.lock();
        if !tree.dir(tree.find(path)?)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        tree.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let tree = self.tree.lock();
        tree.dir(tree.find(path)?).map(|_| ())
    }

    fn lock(&self, path: &Path, owner: &str) -> io::Result<Option<LockGuard>> {
        if !self.locks.lock().insert(path.to_path_buf()) {
            return Ok(None);
        }
        let guard = MemoryLock { path: path.to_path_buf(), locks: Arc::clone(&self.locks) };
        self.write(path, owner.as_bytes())?;
        Ok(Some(Box::new(guard)))
    }

    fn space(&self, _path: &Path) -> io::Result<Option<Space>> {
        Ok(None)
    }

    fn random(&self) -> u64 {
        let mut state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        split_mix(&mut state)
    }
}

#[derive(Debug)]
struct MemoryLock {
    path: PathBuf,
    locks: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.locks.lock().remove(&self.path);
    }
}

/// A file on the heap.
#[derive(Debug)]
pub(super) struct MemoryFile {
    content: Mutex<Content>,
}

#[derive(Debug)]
enum Content {
    /// Not mapped.
    Bytes(Vec<u8>),
    /// Mapped: the region holds the bytes that are published, `behind` those that stood behind them
    /// when the file was mapped; `len` is the file's length.
    Mapped { region: Arc<Region>, behind: Vec<u8>, len: usize },
}

impl MemoryFile {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { content: Mutex::new(Content::Bytes(bytes)) }
    }

    pub(super) fn len_now(&self) -> u64 {
        match &*self.content.lock() {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Mapped { len, .. } => *len as u64,
        }
    }

    /// The file as it reads at this moment; what is stored but not published reads as what was there
    /// before.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        match &*self.content.lock() {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Mapped { region, behind, len } => {
                let mut bytes = behind.clone();
                bytes.resize(*len, 0);
                let published = region.committed().min(*len);
                let read = region.read(0..published).unwrap_or_default();
                if let Some(start) = bytes.get_mut(..published) {
                    start.copy_from_slice(read);
                }
                bytes
            }
        }
    }

    /// The whole file for reading.
    pub(super) fn map_reader(&self) -> io::Result<Arc<Region>> {
        let mut content = self.content.lock();
        match &*content {
            Content::Mapped { region, .. } => Ok(Arc::clone(region)),
            Content::Bytes(bytes) => {
                let region = Region::copy_of(bytes)?;
                let len = bytes.len();
                *content = Content::Mapped { region: Arc::clone(&region), behind: Vec::new(), len };
                Ok(region)
            }
        }
    }

    fn resize(&self, to: u64) -> io::Result<()> {
        let to = usize::try_from(to).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        match &mut *content {
            Content::Bytes(bytes) => bytes.resize(to, 0),
            Content::Mapped { region, behind, len } if to >= region.committed() => {
                *len = to;
                behind.truncate(to);
            }
            Content::Mapped { region, .. } => {
                let kept = region.read(0..to).unwrap_or_default().to_vec();
                *content = Content::Bytes(kept);
            }
        }
        Ok(())
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len_now())
    }

    fn allocate(&self, _from: u64, to: u64) -> io::Result<()> {
        self.resize(to)
    }

    fn keep_in_place(&self) {}

    fn is_whole(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.resize(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn rewrite(&self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    /// For files that are not mapped.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(position).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        let mut whole = match &*content {
            Content::Bytes(whole) => whole.clone(),
            Content::Mapped { region, .. } => {
                region.read(0..region.committed()).unwrap_or_default().to_vec()
            }
        };
        let end = start + bytes.len();
        whole.resize(whole.len().max(end), 0);
        if let Some(slot) = whole.get_mut(start..end) {
            slot.copy_from_slice(bytes);
        }
        *content = Content::Bytes(whole);
        Ok(())
    }

    fn call_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        self.map_writer(capacity, committed)
    }

    fn map_writer(&self, capacity: usize, committed: usize) -> io::Result<RegionWriter> {
        let bytes = self.snapshot();
        let published = bytes.get(..committed).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut writer = RegionWriter::on_heap(capacity, published)?;
        writer.set_limit(bytes.len().min(capacity));
        let region = Arc::clone(writer.region());
        let len = bytes.len();
        // A file that has nothing behind, as every new one, keeps no copy of it.
        let blank = bytes.get(committed..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0));
        let behind = if blank { Vec::new() } else { bytes };
        *self.content.lock() = Content::Mapped { region, behind, len };
        Ok(writer)
    }
}
