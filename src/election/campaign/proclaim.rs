//! A leader's changes of its value, one after the other.

use std::sync::Arc;

use super::Phase;
use crate::election::timers::Timer;
use crate::election::watch::one_range;
use crate::election::{CallId, Core, PartPurpose, Reply, ReplyId};
use crate::error::{Code, Error};
use crate::events::SubscriptionId;
use crate::store::{Compare, Failure, Header, Op, Range, StoreError, Txn, TxnResult};

impl Core {
    pub(in crate::election) fn proclaim(&mut self, id: SubscriptionId, value: Arc<[u8]>, reply: ReplyId) {
        match self.campaigns.get_mut(&id) {
            Some(campaign) if campaign.phase == Phase::Leading => {
                // A value that nobody waits for gives way, unless it is under way: so there are never many.
                let mut under_way = campaign.proclaiming.is_some();
                campaign.proclaims.retain(|(_, reply)| std::mem::take(&mut under_way) || reply.is_some());
                campaign.proclaims.push_back((value, Some(reply)));
                self.send_proclaim(id);
            }
            _ => self.reply(reply, Err(Error::new(Code::NotLeader, "proclaim: this campaign does not lead"))),
        }
    }

    /// One at a time, and each only on top of the last change known, so that the last one asked for is the last one
    /// done: a request given up as lost can't arrive later and undo it.
    pub(super) fn send_proclaim(&mut self, id: SubscriptionId) {
        let Some((election, session)) = self.place(id) else { return };
        let (Some(key), Some(lease)) = (self.own_key(session, &election), self.sessions.get(&session).map(|s| s.lease))
        else {
            return;
        };
        let Some(campaign) = self.campaigns.get(&id) else { return };
        let (Some((value, _)), None, None) = (campaign.proclaims.front(), campaign.proclaiming, campaign.leaving)
        else {
            return;
        };
        let txn = Txn {
            compares: vec![Compare::ModRevision(key.clone(), campaign.changed)],
            then: vec![Op::Put { key: key.clone(), value: value.to_vec(), lease }],
            otherwise: vec![Op::Range(Range { key, ..Range::default() })],
        };
        let call = self.submit(PartPurpose::Proclaim(id), txn);
        if let Some(campaign) = self.campaigns.get_mut(&id) {
            campaign.proclaiming = Some(call);
        }
    }

    pub(in crate::election) fn proclaimed(
        &mut self,
        id: SubscriptionId,
        call: CallId,
        result: Result<(Header, TxnResult), StoreError>,
    ) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.proclaiming.take_if(|current| *current == call).is_none() {
            return;
        }
        // Nobody would ask for it again.
        let is_unheard = campaign.proclaims.front().is_some_and(|(_, reply)| reply.is_none());
        match result {
            Ok((header, TxnResult { succeeded: true, .. })) => {
                campaign.changed = header.revision;
                self.end_proclaim(id, Ok(Reply::Done));
            }
            Ok((_, otherwise)) => self.proclaimed_before(id, otherwise),
            Err(error) if error.failure.is_transient() || (is_unheard && error.failure != Failure::TooLarge) => {
                let pause = campaign.pause.pause(&mut self.random);
                self.timers.set(Timer::Campaign(id), self.now + pause);
            }
            Err(error) => self.end_proclaim(id, Err(Error::from(&error))),
        }
    }

    /// The key has changed since the last that was known: by an attempt that was not answered, or it is gone.
    fn proclaimed_before(&mut self, id: SubscriptionId, found: TxnResult) {
        let Some((_, session)) = self.place(id) else { return };
        let lease = self.sessions.get(&session).map(|session| session.lease);
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let own = one_range(found).ok().and_then(|range| range.kvs.into_iter().next());
        match own.filter(|own| own.create_revision == campaign.token && Some(own.lease) == lease) {
            Some(own) => {
                campaign.changed = own.mod_revision;
                if campaign.proclaims.front().is_some_and(|(value, _)| **value == *own.value) {
                    self.end_proclaim(id, Ok(Reply::Done));
                } else {
                    self.send_proclaim(id);
                }
            }
            None => {
                self.orphaned(id);
                self.end_proclaim(id, Err(Error::new(Code::NotLeader, "proclaim: the leader's key is gone")));
            }
        }
    }

    fn end_proclaim(&mut self, id: SubscriptionId, answer: Result<Reply, Error>) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.pause.reset();
        let Some((value, reply)) = campaign.proclaims.pop_front() else { return };
        if answer.is_ok() {
            campaign.candidacy.value = value;
        }
        if let Some(reply) = reply {
            self.reply(reply, answer);
        }
        self.send_proclaim(id);
    }

    pub(super) fn fail_proclaims(&mut self, id: SubscriptionId, reason: &Error) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.proclaiming = None;
        let message = format!("proclaim: leadership ended before it was confirmed: {reason}");
        for (_, reply) in std::mem::take(&mut campaign.proclaims) {
            if let Some(reply) = reply {
                self.reply(reply, Err(Error::new(Code::NotLeader, message.as_str())));
            }
        }
    }
}
