//! Two gateways with one client id kick each other out for ever, and MQTT 3.1.1 tells neither of them why.

use std::time::Duration;

use super::{Loss, TcpFault};
use crate::uplink::suspects::End;

/// A connection closed by the server within this time after CONNACK is young. The rival comes back after its back-off, which is short
/// because its publishes are acknowledged each time.
pub const SHORT_LIFE_MAX: Duration = Duration::from_secs(60);

/// So many young connections closed in a row are called a take-over. A restarting broker closes one or two.
pub const CLOSES_MIN: u32 = 3;

/// Recognises the pattern of a client id used twice: the server accepts, then closes shortly after, again and again.
///
/// It is an inference: a broker that forbids a topic by closing the connection looks the same until a message is suspected, and the text of
/// [`Loss::TakenOver`] names both. What a suspected message may have caused is never laid to a rival: while one is on trial the loss says
/// [`Loss::OnTrial`] instead. Nor is the end at which the server had not answered a subscription: which filter it will not take is tried meanwhile, too.
/// Never changes any other loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TakeOverWatch {
    closes: u32,
}

impl TakeOverWatch {
    /// Looks at the end of an epoch (`up_for` is `None` if it never was up) and gives back the loss to report.
    #[must_use]
    pub fn judge(&mut self, loss: Loss, up_for: Option<Duration>) -> Loss {
        match up_for {
            // An attempt that never came up says nothing about a rival: the network may be away in between.
            None => return loss,
            Some(life) if is_by_server(&loss) && life <= SHORT_LIFE_MAX => {
                self.closes = self.closes.saturating_add(1);
            }
            Some(_) => self.closes = 0,
        }
        if self.closes >= CLOSES_MIN { Loss::TakenOver { closes: self.closes } } else { loss }
    }

    /// As [`Self::judge`], where it is known what the end says about messages.
    pub(in crate::uplink) fn judge_with(&mut self, loss: Loss, up_for: Option<Duration>, end: End) -> Loss {
        match end {
            End::Unclear => return self.judge(loss, up_for),
            End::Excused | End::Suspicious => return loss,
            End::Trial => {}
            // The ends before were its doing, too.
            End::Blamed(..) => self.closes = 0,
        }
        if is_by_server(&loss) { Loss::OnTrial } else { loss }
    }
}

fn is_by_server(loss: &Loss) -> bool {
    matches!(loss, Loss::Closed { stage: None } | Loss::Tcp { fault: TcpFault::Reset, .. })
}
