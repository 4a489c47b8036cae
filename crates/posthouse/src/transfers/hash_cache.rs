//! A cache of the hashes of completely sent files, so that a file need not be read to send it
//! again.

use std::collections::{BTreeMap, VecDeque};

use posthouse_io::FileVersion;

use crate::sync::{Mutex, lock};

/// The maximum number of hashes, about 200 bytes each. If the cache is full, the oldest hash is
/// removed for a new one.
const MAX_HASHES: usize = 1024;

/// The hashes that an endpoint knows. A receiver with the whole file has confirmed each of them.
#[derive(Debug)]
pub(crate) struct HashCache<V = FileVersion> {
    inner: Mutex<Inner<V>>,
}

#[derive(Debug)]
struct Inner<V> {
    hashes: BTreeMap<V, [u8; 32]>,
    /// The same files, in the order of their insertion.
    order: VecDeque<V>,
}

impl<V> Default for HashCache<V> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { hashes: BTreeMap::new(), order: VecDeque::new() }) }
    }
}

impl<V: Copy + Ord> HashCache<V> {
    pub(crate) fn get(&self, version: V) -> Option<[u8; 32]> {
        lock(&self.inner).hashes.get(&version).copied()
    }

    pub(crate) fn insert(&self, version: V, hash: [u8; 32]) {
        let Inner { hashes, order } = &mut *lock(&self.inner);
        if hashes.insert(version, hash).is_none() {
            order.push_back(version);
        }
        while order.len() > MAX_HASHES {
            let oldest = order.pop_front();
            oldest.and_then(|oldest| hashes.remove(&oldest));
        }
    }

    /// Removes the hash of a file whose transfer failed, because the file may have changed.
    pub(crate) fn remove(&self, version: V) {
        let Inner { hashes, order } = &mut *lock(&self.inner);
        if hashes.remove(&version).is_some() {
            order.retain(|other| *other != version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_is_forgotten_takes_none() {
        let cache = HashCache::default();
        for version in 0..=MAX_HASHES {
            cache.insert(version, [version as u8; 32]);
            cache.insert(version, [version as u8; 32]);
        }
        assert_eq!((cache.get(0), cache.get(1)), (None, Some([1; 32])));
        cache.remove(5);
        cache.remove(5);
        assert_eq!(cache.get(5), None);
        cache.insert(MAX_HASHES + 1, [7; 32]);
        assert_eq!(cache.get(1), Some([1; 32]), "there was room");
        let inner = lock(&cache.inner);
        assert_eq!((inner.hashes.len(), inner.order.len()), (MAX_HASHES, MAX_HASHES));
    }
}
