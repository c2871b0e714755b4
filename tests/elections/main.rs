//! Elections on real etcd, through the public API: what candidates, observers and the store see. Each test has a key
//! space of its own and runs on every version of etcd; the tests of one version share one server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "../support/mod.rs"]
mod support;

/// Makes a test of each function for each version of etcd; called in the module of the functions.
macro_rules! on_each_version {
    ($($test:ident)+) => {
        on_each_version!(v3_7, V37, $($test)+);
        on_each_version!(v3_6, V36, $($test)+);
        on_each_version!(v3_4, V34, $($test)+);
    };
    ($module:ident, $version:ident, $($test:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    super::$test(&crate::support::electorate::Electorate::on(crate::support::Version::$version));
                }
            )+
        }
    };
}

mod consumers;
mod crowds;
mod endings;
mod losses;
mod names;
mod onlookers;
mod pulling;
mod rivals;
mod story;
mod values;
