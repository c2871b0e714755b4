//! Where elections and candidates lie in the store.

use crate::config::Namespace;
use crate::store::LeaseId;

/// The keys of one service.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    base: Vec<u8>,
}

impl Keys {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let base = match namespace {
            Namespace::Prefix(prefix) => prefix.clone(),
            Namespace::Layout { root, environment, service } if environment.is_empty() => format!("{root}/{service}/"),
            Namespace::Layout { root, environment, service } => format!("{root}/{environment}/{service}/"),
        };
        Keys { base: base.into_bytes() }
    }

    /// What all keys of the service start with; may be empty.
    pub(crate) fn base(&self) -> &[u8] {
        &self.base
    }

    /// What all keys of an election start with; ends with a slash.
    pub(crate) fn election(&self, name: &str) -> Vec<u8> {
        [self.base.as_slice(), name.as_bytes(), b"/"].concat()
    }

    /// The elections that a key belongs to, innermost first, each with the rest of the key. Only the first holds the
    /// key as a candidate; for the others it is nested. `base/a/b/1f` is candidate `1f` of `a/b`, and `b/1f` in `a`.
    pub(crate) fn locate<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = (&'k str, &'k [u8])> {
        let rest = key.strip_prefix(self.base.as_slice()).unwrap_or_default();
        let slashes = (0..rest.len()).rev().filter(|&at| rest[at] == b'/');
        slashes.filter_map(|at| Some((std::str::from_utf8(&rest[..at]).ok()?, &rest[at + 1..])))
    }
}

/// A candidate's key below its election: the lease id as lower-case hex without padding, as Go's `%x` writes it.
pub(crate) fn candidate(election: &[u8], lease: LeaseId) -> Vec<u8> {
    [election, format!("{lease:x}").as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(environment: &str) -> Keys {
        Keys::new(&Namespace::Layout { root: "_ld".into(), environment: environment.into(), service: "svc".into() })
    }

    #[test]
    fn keys_are_those_of_m3_and_of_gos_concurrency() {
        assert_eq!(layout("").election("default"), b"_ld/svc/default/");
        assert_eq!(layout("prod").election("a/b"), b"_ld/prod/svc/a/b/");
        let go = Keys::new(&Namespace::Prefix("/".into()));
        assert_eq!(candidate(&go.election("jobs"), 0x694d_7191_0a0b), b"/jobs/694d71910a0b");
    }

    #[test]
    fn a_key_is_a_candidate_of_the_innermost_election_and_nested_in_the_others() {
        let found: Vec<_> = layout("").locate(b"_ld/svc/a/b/1f").map(|(e, k)| (e, k.to_vec())).collect();
        assert_eq!(found, [("a/b", b"1f".to_vec()), ("a", b"b/1f".to_vec())]);
        assert_eq!(layout("").locate(b"_ld/other/a/1f").count(), 0);
        assert_eq!(layout("").locate(b"_ld/svc/\xff/1f").count(), 0);
        let found: Vec<_> = layout("").locate(b"_ld/svc/a/\xff").collect();
        assert_eq!(found, [("a", &b"\xff"[..])], "a candidate's name is any bytes");
    }
}
