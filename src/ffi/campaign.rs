//! Campaigns.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::error::{tenure_code, tenure_error};
use super::events::tenure_state;
use super::service::ServiceEntry;
use super::{convert, guard};
use crate::service::Campaign;

/// One candidacy of this process in one election.
pub struct tenure_campaign(());

/// What a campaign handle stands for.
pub(crate) struct CampaignEntry {
    pub(super) campaign: Campaign,
    service: Weak<ServiceEntry>,
    call_timeout: Duration,
}

impl CampaignEntry {
    pub(super) fn new(campaign: Campaign, service: &Arc<ServiceEntry>, call_timeout: Duration) -> Self {
        CampaignEntry { campaign, service: Arc::downgrade(service), call_timeout }
    }

    pub(super) fn is_of(&self, service: &Arc<ServiceEntry>) -> bool {
        std::ptr::eq(self.service.as_ptr(), Arc::as_ptr(service))
    }
}

/// Whether this process leads the election right now. This is the one thing to ask before acting as the leader: it
/// compares the clock with the time until which leadership is certain, and never waits for anything. False for a
/// handle that is NULL, freed, or of the parent process.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_is_leader(campaign: *const tenure_campaign) -> bool {
    guard::look(campaign, |entry| entry.campaign.is_leader())
}

/// For how many milliseconds from now leadership is certain, rounded down; longer if it is renewed. 0 where
/// `tenure_campaign_is_leader` is false. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_remaining_ms(campaign: *const tenure_campaign) -> i64 {
    guard::look(campaign, |entry| convert::whole_ms(entry.campaign.remaining()))
}

/// The fencing token of the term: greater than every earlier leader's. Pass it along with what you do as the leader,
/// so that the receiver can refuse smaller ones. 0 where `tenure_campaign_is_leader` is false. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_token(campaign: *const tenure_campaign) -> i64 {
    guard::look(campaign, |entry| entry.campaign.token())
}

/// The state now, never `TENURE_STATE_LEADER` where `tenure_campaign_is_leader` is false; `TENURE_STATE_NONE` for a
/// handle that is NULL, freed, or of the parent process. Never waits.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_state(campaign: *const tenure_campaign) -> tenure_state {
    guard::look(campaign, |entry| entry.campaign.state() as tenure_state)
}

/// Waits until this campaign leads, for at most `timeout_ms` (-1: for ever, 0: only look).
///
/// Errors: TIMEOUT; when the campaign is over, why: CLOSED, SESSION_EXPIRED, LEASE_REVOKED, KEY_DELETED,
/// CLUSTER_CHANGED, NAME_COLLISION, PERMISSION_DENIED, WAIT_LIMIT and others; INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_wait_leader(
    campaign: *mut tenure_campaign,
    timeout_ms: i32,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(campaign.addr(), err, || {
        let timeout = convert::timeout_or_ages(timeout_ms)?;
        convert::live(campaign, "campaign")?.campaign.wait_leader(timeout)
    })
}

/// Changes the announced value during a term, without losing it. The `len` bytes are copied; `value` may be NULL when
/// `len` is 0. Waits for etcd's answer for at most `timeout_ms` (-1: the service's `call_timeout`).
///
/// Errors: NOT_LEADER, VALUE_TOO_LARGE above 1 MiB, PERMISSION_DENIED, NO_SPACE, CLOSED; PENDING: not confirmed yet, the
/// library goes on trying; INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_campaign_proclaim(
    campaign: *mut tenure_campaign,
    value: *const c_void,
    len: usize,
    timeout_ms: i32,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(campaign.addr(), err, || {
        let entry = convert::live(campaign, "campaign")?;
        // SAFETY: the caller passes NULL or `len` bytes.
        let value = unsafe { convert::value(value, len)? };
        entry.campaign.proclaim(value, convert::timeout(timeout_ms, entry.call_timeout)?)
    })
}

/// Withdraws from the election, leading or waiting. Leadership ends at once; then waits for etcd to confirm that the
/// key is gone, for at most `timeout_ms` (-1: the service's `call_timeout`, 0: don't wait). OK means confirmed, also
/// when there was nothing to withdraw. The campaign's last event follows; the handle stays until it is freed.
///
/// Errors: PENDING: not confirmed yet; the library goes on by itself, and calling again waits on. (Where etcd can't
/// confirm it, being out of reach or another cluster by now, the end of the lease's time to live does.)
/// INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_resign(
    campaign: *mut tenure_campaign,
    timeout_ms: i32,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(campaign.addr(), err, || {
        let entry = convert::live(campaign, "campaign")?;
        entry.campaign.resign(convert::timeout(timeout_ms, entry.call_timeout)?)
    })
}

/// Like `tenure_campaign_resign`, for the leader only: a campaign that waits or is over is left as it is. `timeout_ms`
/// is as there (-1: the service's `call_timeout`, 0: don't wait).
///
/// Errors: NOT_LEADER, with nothing changed; otherwise as `tenure_campaign_resign`: PENDING, INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_resign_leader(
    campaign: *mut tenure_campaign,
    timeout_ms: i32,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(campaign.addr(), err, || {
        let entry = convert::live(campaign, "campaign")?;
        entry.campaign.resign_leader(convert::timeout(timeout_ms, entry.call_timeout)?)
    })
}

/// Frees a campaign. NULL is fine, and so is freeing twice. Leadership ends at once, and the candidacy is withdrawn
/// in the background without waiting; events go on to its last one, after which `user_data` ends. To know that the
/// key is gone, call `tenure_campaign_resign` first. May be called inside callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_free(campaign: *mut tenure_campaign) {
    guard::quiet(campaign.addr(), || {
        if let Some(entry) = convert::freed(campaign) {
            // A call in another thread may keep the entry for a while; leadership must not wait for it.
            entry.campaign.abandon();
        }
    });
}
