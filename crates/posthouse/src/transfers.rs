//! Files: the directories that hold them, and the transfers of a connection.

pub(crate) mod directory;
pub(crate) mod driver;
pub(crate) mod hash_cache;
pub(crate) mod quota;
