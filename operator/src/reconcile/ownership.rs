//! Ownership: whose is the route of this channel's sender?
//!
//! Takes what stands where the channel's route belongs; gives the channel's own route, a free place,
//! or what stands in the way. The API server lets only one object of the name exist, so two channels
//! can never both serve a sender. Pure.

use kanarie_words::reason::Reason;
use kube::api::ObjectMeta;

use crate::cluster::key::ChannelKey;
use crate::cluster::route_object::RouteObject;
use crate::reconcile::blocked::Blocked;
use crate::reconcile::found::RouteFound;

/// Where the channel's route is, or goes.
pub enum Place {
    /// There it is.
    Own(Box<RouteObject>),
    /// There is none, or the channel of the one that is there is gone.
    Free {
        /// The object to replace, if there is one.
        replace: Option<Box<ObjectMeta>>,
    },
}

/// Says whose the place is. A free one is the oldest claimant's.
pub fn place(
    found: Option<RouteFound>,
    first_claimant: Option<&ChannelKey>,
) -> Result<Place, Blocked> {
    let replace = match found {
        Some(RouteFound::Own(own)) => return Ok(Place::Own(own)),
        Some(RouteFound::Unreadable(error)) => {
            return Err(Blocked::by(Reason::RouteUnreadable, error));
        }
        Some(RouteFound::Foreign { metadata, owner: None }) => {
            let name = metadata.name.unwrap_or_default();
            let message =
                format!("the Secret `{name}` in the routes namespace is no route; delete it");
            return Err(Blocked::by(Reason::RouteUnreadable, message));
        }
        Some(RouteFound::Foreign { metadata, owner: Some((owner, true)) }) => {
            return Err(conflict(&owner.key, metadata.name.as_deref()));
        }
        Some(RouteFound::Foreign { metadata, owner: Some((_, false)) }) => Some(metadata),
        None => None,
    };
    match first_claimant {
        Some(older) => Err(conflict(older, None)),
        None => Ok(Place::Free { replace }),
    }
}

/// Whether something stands in the way, by a glance.
pub fn is_taken(found: Option<&RouteFound>, first_claimant: Option<&ChannelKey>) -> bool {
    match found {
        Some(RouteFound::Own(_)) => false,
        Some(RouteFound::Unreadable(_)) => true,
        Some(RouteFound::Foreign { owner, .. }) => {
            owner.as_ref().is_none_or(|(_, lives)| *lives) || first_claimant.is_some()
        }
        None => first_claimant.is_some(),
    }
}

fn conflict(holder: &ChannelKey, route: Option<&str>) -> Blocked {
    let ChannelKey { namespace, name } = holder;
    let gone = route.map_or_else(String::new, |route| {
        format!(
            "; if that one is gone and its namespace is not watched any more, delete the Secret \
             `{route}` in the routes namespace"
        )
    });
    let message = format!(
        "channel {namespace}/{name} holds this account's sender; delete one of the two channels{gone}"
    );
    Blocked::by(Reason::SenderConflict, message)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;

    use super::*;
    use crate::cluster::memory::MemoryError;
    use crate::cluster::route_object::owner_of;

    const OTHERS: &str = "
metadata:
  name: kanarie-route-1
  labels: {kanarie.dev/channel-uid: v}
  annotations: {kanarie.dev/channel: shop/other}
";

    fn foreign(text: &str, lives: bool) -> Option<RouteFound> {
        let object: Secret = serde_saphyr::from_str(text).unwrap();
        let owner = owner_of(&object).map(|owner| (owner, lives));
        Some(RouteFound::Foreign { metadata: Box::new(object.metadata), owner })
    }

    fn blocked(found: Option<RouteFound>, older: Option<&ChannelKey>) -> (Reason, String) {
        let why = place(found, older).err().unwrap();
        (why.reason, why.message)
    }

    #[test]
    fn the_route_of_a_channel_that_lives_is_a_conflict_that_names_it_and_the_way_out() {
        let (reason, message) = blocked(foreign(OTHERS, true), None);
        assert_eq!(reason, Reason::SenderConflict);
        assert!(message.contains("shop/other") && message.contains("kanarie-route-1"), "{message}");
    }

    #[test]
    fn the_route_of_a_channel_that_is_gone_is_replaced_by_the_oldest_claimant() {
        let found = place(foreign(OTHERS, false), None).unwrap();
        assert!(matches!(found, Place::Free { replace: Some(there) } if there.name.is_some()));
        let older = ChannelKey { namespace: "shop".into(), name: "first".into() };
        let (reason, message) = blocked(foreign(OTHERS, false), Some(&older));
        assert_eq!(reason, Reason::SenderConflict);
        assert!(message.contains("shop/first"), "{message}");
    }

    #[test]
    fn a_secret_that_is_no_route_is_left_alone() {
        let (reason, message) = blocked(foreign("metadata: {name: mine}", true), None);
        assert_eq!(reason, Reason::RouteUnreadable);
        assert!(message.contains("`mine`"), "{message}");
    }

    #[test]
    fn a_route_of_a_newer_operator_is_left_alone() {
        let found = Some(RouteFound::Unreadable(MemoryError::Newer { found: 9 }));
        assert_eq!(blocked(found, None).0, Reason::RouteUnreadable);
    }

    #[test]
    fn a_place_with_nothing_in_it_is_free() {
        assert!(matches!(place(None, None), Ok(Place::Free { replace: None })));
    }
}
