//! `send` and `expect` of a check: what is said, and what must come back.

use crate::findings::{Finding, Place};
use crate::model::SendExpect;
use crate::reader::{List, Table};
use crate::value::bytes;

/// The most steps of one check.
const STEPS: usize = 16;

/// Both as they were written: each one text or a list of them.
pub(super) struct Dialog {
    send: List<Vec<u8>>,
    expect: List<Vec<u8>>,
}

impl Dialog {
    pub(super) fn read(check: &mut Table<'_, '_>) -> Self {
        Dialog { send: check.one_or_list("send", bytes), expect: check.one_or_list("expect", bytes) }
    }

    pub(super) fn warn_of_no_effect(&self, check: &mut Table<'_, '_>) {
        for (list, kinds) in [(&self.send, "\"send_expect\" or \"agent\""), (&self.expect, "\"send_expect\"")]
        {
            if !is_empty(list) {
                check.findings.push(no_effect(&list.place, kinds));
            }
        }
    }

    /// In pairs; where only one of the two is given, the other is empty in every step.
    pub(super) fn into_steps(self, check: &mut Table<'_, '_>) -> Vec<SendExpect> {
        let Dialog { send, expect } = self;
        if !(send.is_complete && expect.is_complete) {
            return Vec::new();
        }
        if is_empty(&send) && is_empty(&expect) {
            let finding = Finding::error(&check.place, "a send_expect check that sends and expects nothing");
            check.findings.push(finding.expected("`send`, `expect` or both"));
            return Vec::new();
        }
        let (sent, expected) = (send.items.len(), expect.items.len());
        if !is_empty(&send) && !is_empty(&expect) && sent != expected {
            let message = format!("`send` has {sent} steps and `expect` {expected}");
            let finding = Finding::error(&expect.place, message).related(&send.place, "`send`");
            check.findings.push(finding.expected("as many of each; \"\" for nothing"));
            return Vec::new();
        }
        let count = sent.max(expected);
        if count > STEPS {
            let finding = Finding::error(&send.place, format!("{count} steps are too many for one check"));
            check.findings.push(finding.expected(format!("at most {STEPS}")));
        }
        let mut send = send.items.into_iter().map(|sent| sent.value);
        let mut expect = expect.items.into_iter().map(|expected| expected.value);
        let step = |_| SendExpect {
            send: send.next().unwrap_or_default(),
            expect: expect.next().unwrap_or_default(),
        };
        (0..count).map(step).collect()
    }

    /// What an agent is sent first.
    pub(super) fn into_question(self, check: &mut Table<'_, '_>) -> Vec<u8> {
        if !is_empty(&self.expect) {
            check.findings.push(no_effect(&self.expect.place, "\"send_expect\""));
        }
        if self.send.items.len() > 1 {
            let finding = Finding::error(&self.send.place, "an agent is sent one text, not several");
            check.findings.push(finding.expected("one text"));
        }
        self.send.items.into_iter().next().map(|sent| sent.value).unwrap_or_default()
    }
}

fn is_empty(list: &List<Vec<u8>>) -> bool {
    list.items.iter().all(|item| item.value.is_empty())
}

fn no_effect(place: &Place, kinds: &str) -> Finding {
    let message = "it has no effect on this kind of check";
    Finding::warning(place, message).expected(format!("nothing, or a check of kind {kinds}"))
}
