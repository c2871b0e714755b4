//! What tests/fuzz/ runs: the parts that take what strangers wrote, each fed from a string of bytes. Also run by unit
//! tests, on the corpus and on random bytes.

#![allow(clippy::panic, reason = "how a fuzz target says that something is wrong")]

use crate::config::{CAMPAIGN, CampaignOptions, SERVICE, ServiceOptions};
use crate::error::{Code, Error};
use crate::process;
use crate::store::etcd::{Etcd, EtcdConfig};

pub use crate::election::hostile::answers;

/// Bytes as a source of choices; zeros when they are used up.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Once in `often` times. Zero, which is what there is in the end, says no.
    pub(crate) fn once_in(&mut self, often: usize) -> bool {
        self.below(often) == often - 1
    }

    pub(crate) fn number(&mut self) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// At most so many bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken.to_vec()
    }
}

/// Handles and results that are alive in this process.
pub fn alive() -> (usize, usize) {
    let level = process::level();
    (level.handles.len(), level.results.len())
}

/// An error says what and why, in a sentence without line ends.
fn check_error(error: &Error, codes: &[Code]) {
    assert!(codes.contains(&error.code()), "{:?}: {error}", error.code());
    assert!(!error.message().is_empty() && error.message().len() < 4096, "{error}");
    assert!(!error.message().contains(['\n', '\r', '\0']), "{:?}", error.message());
}

/// Options by name, one per line as `name=value`, of a service and of a campaign; then, what connects with them reads
/// the endpoints.
pub fn options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (mut service, mut campaign) = (ServiceOptions::new(), CampaignOptions::new());
    for line in text.split('\n') {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        // A number stands for a name, so that names need not be guessed.
        let name = match name.parse::<usize>() {
            Ok(number) => SERVICE.iter().map(|row| row.name).chain(CAMPAIGN.iter().map(|row| row.name)).nth(number),
            Err(_) => Some(name),
        };
        let Some(name) = name else { continue };
        let before = format!("{service:?}");
        if let Err(error) = service.set(name, value) {
            check_error(&error, &[Code::UnknownOption, Code::InvalidValue]);
            assert_eq!(format!("{service:?}"), before, "an error changes nothing");
            assert!(name != "password" || value.len() < 4 || !error.message().contains(value), "{error}");
        }
        if let Err(error) = campaign.set(name, value) {
            check_error(&error, &[Code::UnknownOption, Code::InvalidValue]);
        }
    }
    if let Err(error) = service.check() {
        check_error(&error, &[Code::InvalidValue]);
    }
    if let Err(error) = campaign.check(service.ttl) {
        check_error(&error, &[Code::InvalidValue]);
    }
    // Looking for the password itself would find names of options, too.
    let shown = |options: &ServiceOptions| format!("{options:?} {:?}", options.check());
    let mut other = service.clone();
    other.password = service.password.as_ref().map(|password| format!("{password}."));
    assert_eq!(shown(&other), shown(&service), "what is shown depends on the password");
    // Also what the options let through; and as it is, what they would not.
    for endpoints in [service.endpoints.clone(), text.split(',').map(str::to_owned).collect()] {
        let config = EtcdConfig {
            endpoints,
            username: None,
            password: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: service.server_name.clone(),
            dial_timeout: service.dial_timeout,
        };
        if let Err(error) = Etcd::new(config) {
            assert!(!error.message.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::Random;

    /// Every file of the target's corpus.
    fn replay(target: &str, run: fn(&[u8])) -> usize {
        let folder = format!("{}/tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.iter().for_each(|path| run(&std::fs::read(path).unwrap()));
        files.len()
    }

    fn random(seeds: u64, run: fn(&[u8])) {
        for seed in 0..seeds {
            let mut random = Random::new(seed);
            let length = random.next() % 600;
            let bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
            run(&bytes);
        }
    }

    #[test]
    fn hostile_answers_of_the_corpus_and_random_ones_elect_nobody() {
        assert!(replay("answers", answers) > 20);
        random(2000, answers);
    }

    #[test]
    fn options_of_the_corpus_are_taken_or_refused_with_a_reason() {
        assert!(replay("options", options) > 20);
    }
}
