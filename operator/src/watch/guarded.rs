//! A channel as the watches deliver it.

use kanarie_crds::channel::WhatsAppChannel;
use kube::core::DeserializeGuard;

/// One that cannot be decoded does not stop the others.
pub type Guarded = DeserializeGuard<WhatsAppChannel>;
