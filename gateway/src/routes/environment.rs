//! Routes from the manifests of a directory: the very WhatsAppChannel and Secret objects that a
//! cluster would hold.
//!
//! Takes a directory, gives the table one route a channel: all traffic to the spec as written.
