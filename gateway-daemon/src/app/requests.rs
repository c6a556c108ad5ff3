//! Requests of people: what the core loop answers itself, and what it sends to a bus.

use std::sync::{Arc, PoisonError};

use drivers::bus;
use drivers::clock;
use gateway_core::poll::request::Answer;

use super::control::{Ask, Reply, Request};
use super::deeds::Write;
use super::errand::Errand;
use super::gateway::Gateway;
use super::{aside, measure, sessions};
use crate::panics::Contained;

impl Gateway {
    /// Answers a request, or has it answered.
    pub(super) fn request(&mut self, request: Request) {
        let Request { ask, by, reply } = request;
        let answer = match &ask {
            Ask::Queue { uplink, wanted } => return aside::answer(self, uplink, (*wanted, by), reply),
            Ask::Status => Reply::Status(Box::new(self.picture(clock::now()))),
            Ask::Metrics => Reply::Text(measure::text(self)),
            Ask::Sessions { .. } | Ask::DropSession { .. } if self.config.broker.is_none() => {
                Reply::Refused("this gateway has no broker: there is no [broker] in its file".into())
            }
            Ask::Sessions { after } => sessions::page(&self.local.broker, clock::now(), *after),
            Ask::DropSession { client, number } => {
                sessions::drop(&mut self.local.broker, clock::now(), (client.as_deref(), *number), by)
            }
            _ => match Errand::new(&self.field, &ask) {
                Ok(errand) => {
                    let bus = self.field.buses.get(errand.bus).map(|bus| bus.name.as_str());
                    let write = Write::of(&ask, bus, by);
                    return self.send(errand, write, reply);
                }
                Err(sentence) => {
                    let refused = Reply::Refused(sentence);
                    if let Some(write) = Write::of(&ask, None, by) {
                        write.log(&refused);
                    }
                    refused
                }
            },
        };
        // A client that left does not wait for its answer.
        let _ = reply.send(answer);
    }

    fn send(&self, errand: Errand, write: Option<Write>, reply: tokio::sync::oneshot::Sender<Reply>) {
        let Some(asker) = self.lines.asker(errand.bus) else {
            let refused = Reply::Refused("the gateway is stopping".into());
            if let Some(write) = write {
                write.log(&refused);
            }
            let _ = reply.send(refused);
            return;
        };
        let times = errand.device.map_or_else(bus::Times::default, |device| {
            let device = &self.field.devices[device];
            bus::Times {
                timeout: device.timeout,
                delay_before: device.delay_before,
                turnaround: device.turnaround,
            }
        });
        let (field, last_writes) = (Arc::clone(&self.field), Arc::clone(&self.last_writes));
        let polled = errand.written().and_then(|id| self.processor.latest(id)).cloned();
        // Bounded by the clients of the control socket: each waits for its answer.
        tokio::spawn(Contained::new("a request to a device", async move {
            let outcome = carry_out(&asker, &errand, times).await;
            let before = {
                let mut last = last_writes.lock().unwrap_or_else(PoisonError::into_inner);
                let before = errand.written().and_then(|id| last.before(id, polled.as_ref()));
                last.ended(clock::now(), &field, &errand, &outcome);
                before
            };
            let answer = errand.reply(&field, outcome);
            if let Some(write) = write {
                write.over(before.as_ref()).log(&answer);
            }
            // A client that left does not wait for its answer.
            let _ = reply.send(answer);
        }));
    }
}

/// Asks the device, in the two steps of a whole register if it cannot write a part of one.
async fn carry_out(
    asker: &bus::Asker,
    errand: &Errand,
    times: bus::Times,
) -> Result<Answer, bus::CommandError> {
    let first = asker.ask(errand.request.clone(), times).await?;
    let Some(read) = errand.read_whole(&first) else { return Ok(first) };
    let second = asker.ask(read, times).await?;
    match errand.write_whole(&second) {
        Some(write) => asker.ask(write, times).await,
        None => Ok(second),
    }
}
