//! Where a channel is. A plain value.

/// Name and namespace of a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}
