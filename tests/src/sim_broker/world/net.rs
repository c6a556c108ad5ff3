//! Connections: bytes in pieces and on their way, cuts, and attackers.

use gateway_core::broker::{CloseReason, ConnId, Origin};

use super::{Event, MS, World};
use crate::sim_broker::oracle::Verdict;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Client(usize),
    Attacker(usize),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) who: Who,
    /// When its last bytes arrive on either side.
    pub(super) to_broker: u64,
    pub(super) to_client: u64,
    /// The broker reads nothing from it.
    held: bool,
    /// What arrived meanwhile.
    waiting: Vec<u8>,
}

impl World {
    pub(super) fn connect(&mut self, me: usize) {
        // A will for two of three connections; one with a delay can be overtaken by its client.
        let will = match self.chance.of(0..=5) {
            _ if self.case.calm || self.healing => None,
            0 | 1 => None,
            2 if self.clients[me].v5 => Some(5),
            _ => Some(0),
        };
        let conn = self.open(Who::Client(me), format!("10.0.0.{me}"));
        self.clients[me].open(conn, will, &mut self.oracle);
        self.speak(me);
    }

    fn open(&mut self, who: Who, peer: String) -> u64 {
        self.next_conn += 1;
        let conn = self.next_conn;
        let line = Line { who, to_broker: self.now, to_client: self.now, held: false, waiting: Vec::new() };
        self.lines.insert(conn, line);
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_open(now, ConnId(conn), Origin { peer, ..Origin::default() });
        }
        conn
    }

    /// What a client wrote goes on its way.
    pub(super) fn speak(&mut self, me: usize) {
        let Some(conn) = self.clients[me].conn else { return };
        let bytes = std::mem::take(&mut self.clients[me].out);
        self.send(conn, bytes);
    }

    /// Bytes go on their way to the broker, in pieces.
    fn send(&mut self, conn: u64, mut bytes: Vec<u8>) {
        while !bytes.is_empty() {
            let len = if self.chance.one_in(4) { self.chance.of(1..=20) } else { 4096 };
            let rest = bytes.split_off(bytes.len().min(usize::try_from(len).unwrap_or(1)));
            let piece = std::mem::replace(&mut bytes, rest);
            let at = self.travel(conn, true);
            self.after(at, Event::ToBroker { conn, bytes: piece });
        }
    }

    /// How long bytes take from here, never overtaking those before.
    pub(super) fn travel(&mut self, conn: u64, up: bool) -> u64 {
        let delay = self.chance.around(8 * MS);
        let Some(line) = self.lines.get_mut(&conn) else { return delay };
        let last = if up { &mut line.to_broker } else { &mut line.to_client };
        *last = (*last).max(self.now + delay);
        *last - self.now
    }

    /// Bytes arrive at the broker. Those of honest clients arrive also when the connection is held: a listener may have read them before it knew.
    pub(super) fn arrive(&mut self, conn: u64, bytes: Vec<u8>) {
        let now = self.boot_now();
        let Some(line) = self.lines.get_mut(&conn) else { return };
        if matches!(line.who, Who::Attacker(_)) && (line.held || !line.waiting.is_empty()) {
            line.waiting.extend(bytes);
        } else if let Some(broker) = &mut self.broker {
            broker.handle_bytes(now, ConnId(conn), &bytes);
        }
    }

    pub(super) fn hold(&mut self, conn: u64, held: bool) {
        if let Some(line) = self.lines.get_mut(&conn) {
            line.held = held;
            self.report.holds += u64::from(held);
            if !held {
                self.after(0, Event::Released { conn });
            }
        }
    }

    /// What waited is read, as long as nothing holds it up again.
    pub(super) fn go_on(&mut self, conn: u64) {
        let now = self.boot_now();
        let Some(line) = self.lines.get_mut(&conn).filter(|line| !line.held) else { return };
        let bytes = std::mem::take(&mut line.waiting);
        if let Some(broker) = self.broker.as_mut().filter(|_| !bytes.is_empty()) {
            broker.handle_bytes(now, ConnId(conn), &bytes);
        }
    }

    /// Bytes of the broker arrive.
    pub(super) fn hear(&mut self, conn: u64, bytes: &[u8]) -> Verdict {
        let Some(line) = self.lines.get(&conn) else { return Ok(()) };
        let who = line.who;
        match who {
            Who::Client(me) => self.clients[me].hear(self.now, bytes, &mut self.oracle)?,
            Who::Attacker(me) if !self.attackers[me].reads() => return Ok(()),
            Who::Attacker(_) => {}
        }
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_sent(now, ConnId(conn), bytes.len());
        }
        if let Who::Client(me) = who {
            self.speak(me);
        }
        Ok(())
    }

    /// A connection is cut: what is on its way in either direction is lost. A will without a delay speaks at once.
    pub(super) fn cut(&mut self, me: usize) {
        let Some(conn) = self.clients[me].conn else { return };
        self.report.cuts += 1;
        self.lines.remove(&conn);
        let client = &mut self.clients[me];
        match client.will {
            Some(_) if client.leaving => self.oracle.wills.lost(me, conn),
            Some(delay) if self.broker.is_some() => self.oracle.wills.cut(self.now, me, conn, delay),
            _ => {}
        }
        client.lost(&mut self.oracle);
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_closed(now, ConnId(conn));
        }
    }

    /// The broker ends a connection: only attackers give it reason to, and who said goodbye.
    pub(super) fn closed(&mut self, conn: u64, reason: &CloseReason) -> Verdict {
        let Some(line) = self.lines.remove(&conn) else { return Ok(()) };
        match line.who {
            Who::Client(me) if self.clients[me].leaving && *reason == CloseReason::Goodbye => {
                self.oracle.wills.goodbye(me, conn);
                self.clients[me].lost(&mut self.oracle);
                Ok(())
            }
            Who::Client(me) => Err(format!("the broker closes connection {conn} of {me}: {reason}")),
            Who::Attacker(me) => {
                self.attackers[me].conn = None;
                self.report.ended += 1;
                Ok(())
            }
        }
    }

    /// An attacker's next step.
    pub(super) fn attack(&mut self, me: usize) {
        if self.healing {
            return;
        }
        let pause = self.chance.around(300 * MS);
        self.after(pause, Event::Attacker(me));
        if self.broker.is_none() {
            return;
        }
        let Some(conn) = self.attackers[me].conn else {
            self.report.attacks += 1;
            let conn = self.open(Who::Attacker(me), format!("10.0.1.{me}"));
            let bytes = self.attackers[me].open(conn, &mut self.chance);
            return self.send(conn, bytes);
        };
        if self.chance.one_in(30) {
            return self.leave(me);
        }
        let bytes = self.attackers[me].next(&mut self.chance);
        self.send(conn, bytes);
    }

    fn leave(&mut self, me: usize) {
        let Some(conn) = self.attackers[me].conn.take() else { return };
        self.lines.remove(&conn);
        let now = self.boot_now();
        if let Some(broker) = &mut self.broker {
            broker.handle_closed(now, ConnId(conn));
        }
    }

    /// Nothing goes wrong from here on.
    pub(super) fn heal(&mut self) {
        self.healing = true;
        self.turns_fail = false;
        self.disk_delay = 5 * MS;
        for me in 0..self.attackers.len() {
            self.leave(me);
        }
    }
}
