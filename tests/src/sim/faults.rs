//! What goes wrong, and how it becomes well again.

use std::time::Duration;

use gateway_core::uplink::link::{Epoch, LinkEvent};
use gateway_core::uplink::loss::{Loss, TcpFault};
use gateway_core::uplink::row::StoreFault;

use super::chance::Chance;
use super::net::{Broker, Network};
use super::oracle::Verdict;
use super::plan::{MIN, MS, S};
use super::world::{Event, Healing, World};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Network(Network),
    Broker(Broker),
    /// The connection is cut and both sides know it.
    Cut,
    Writes(StoreFault),
    Disk(StoreFault),
    SlowDisk(u64),
    StoreReplaced,
    Kill,
    Reboot,
    Suspend,
    CleanStop,
}

impl Fault {
    pub(super) fn draw(chance: &mut Chance) -> Self {
        match chance.of(0..=21) {
            0 | 1 => Self::Network(Network::BlackHole),
            2 => Self::Network(Network::Slow(chance.of(2..=30))),
            3 => Self::Broker(Broker::Late(chance.of(200..=15_000) * MS)),
            4 => Self::Broker(Broker::Disordered),
            5 => Self::Broker(Broker::Mute),
            6 => Self::Broker(Broker::Forgetful),
            7 | 8 => Self::Broker(Broker::Flapping),
            9 => Self::Broker(Broker::Refusing),
            10..=12 => Self::Cut,
            13 => Self::Writes(chance.pick(&[StoreFault::Full, StoreFault::ReadOnly])),
            14 => Self::Disk(chance.pick(&[StoreFault::Io, StoreFault::Corrupt, StoreFault::Locked])),
            15 => Self::SlowDisk(chance.of(50..=5000) * MS),
            16 if chance.one_in(3) => Self::StoreReplaced,
            17 | 18 => Self::Kill,
            19 => Self::Reboot,
            20 => Self::Suspend,
            21 => Self::CleanStop,
            _ => Self::Cut,
        }
    }
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) -> Verdict {
        self.version += 1;
        if self.is_traced() {
            eprintln!("{} ms: {fault:?}", self.now / MS);
        }
        let lasts = self.chance.pick(&[10 * S, MIN, 10 * MIN, 60 * MIN]);
        let lasts = self.chance.around(lasts);
        match fault {
            Fault::Network(network) => {
                self.network = network;
                self.after(lasts, Event::Heal(Healing::Network(self.version)));
                // A router in between may tell one side.
                if network == Network::BlackHole && self.chance.one_in(3) {
                    self.cut();
                }
            }
            Fault::Broker(broker) => {
                self.broker = broker;
                self.after(lasts, Event::Heal(Healing::Broker(self.version)));
                if matches!(broker, Broker::Flapping | Broker::Refusing) {
                    self.cut();
                }
            }
            Fault::Cut => self.cut(),
            Fault::Writes(fault) => {
                self.disk.write_fault = Some(fault);
                self.after(lasts, Event::Heal(Healing::Disk(self.version)));
            }
            Fault::Disk(fault) => {
                self.disk.fault = Some(fault);
                self.after(lasts, Event::Heal(Healing::Disk(self.version)));
            }
            Fault::SlowDisk(delay) => {
                self.disk_delay = delay;
                self.after(lasts, Event::Heal(Healing::Disk(self.version)));
            }
            Fault::StoreReplaced => {
                self.replace_store()?;
                // Whatever took the database may have taken the room on its disk.
                if self.count.is_multiple_of(2) {
                    self.disk.fill();
                    self.after(lasts, Event::Heal(Healing::Disk(self.version)));
                }
            }
            Fault::Kill => {
                // A machine without power cannot be killed.
                let off = self.uplink.is_none();
                self.kill()?;
                let delay = self.chance.of(1..=20_000) * MS;
                if self.uplink.is_none() && !off {
                    self.start_after(delay);
                }
            }
            Fault::Reboot => self.reboot()?,
            Fault::Suspend => {
                let jump = i64::try_from(self.chance.of(1..=7200) * S).unwrap_or(0);
                self.boot_offset += jump;
                self.oracle.backoff.jumped();
                let now = self.boot_now();
                if let Some(uplink) = &mut self.uplink {
                    uplink.timeout(now);
                }
            }
            Fault::CleanStop => {
                let now = self.boot_now();
                let deadline = now.plus(Duration::from_secs(self.chance.of(1..=20)));
                if let Some(uplink) = &mut self.uplink {
                    self.stopping = true;
                    self.stop_at = self.now;
                    uplink.stop(now, deadline);
                }
            }
        }
        self.look_around();
        Ok(())
    }

    /// The power fails: another boot, whose clock begins again.
    fn reboot(&mut self) -> Verdict {
        self.kill()?;
        let off = self.chance.of(5..=3600) * S;
        self.boot += 1;
        let starts = i64::try_from(self.now + off).unwrap_or(i64::MAX);
        self.boot_offset = i64::try_from(10 * S).unwrap_or(0) - starts;
        self.start_after(off);
        Ok(())
    }

    /// The connection is cut, and the gateway hears of it.
    fn cut(&mut self) {
        let Some(connection) = &self.connection else { return };
        let detail = "reset by peer".into();
        let loss = Loss::Tcp { fault: TcpFault::Reset, stage: None, peer: None, detail };
        let up_for = connection.up_at.map(|at| Duration::from_nanos(self.now - at));
        let epoch = Epoch(connection.epoch);
        let event = LinkEvent::Down { loss, up_for };
        self.after(0, Event::Link { gateway: self.gateway, epoch, event });
    }

    pub(super) fn heal(&mut self, healing: Healing) {
        match healing {
            Healing::Network(version) if version <= self.version => self.network = Network::Good,
            Healing::Broker(version) if version <= self.version => self.broker = Broker::Good,
            Healing::Disk(version) if version <= self.version => {
                self.disk.fault = None;
                self.disk.write_fault = None;
                self.disk.capacity = self.disk.capacity.max(self.plan.disk_bytes);
                self.disk_delay = 3 * MS;
            }
            _ => {}
        }
        self.look_around();
    }

    pub(super) fn heal_all(&mut self) {
        self.version += 1;
        self.disk.capacity = u64::MAX;
        self.heal(Healing::Network(self.version));
        self.heal(Healing::Broker(self.version));
        self.heal(Healing::Disk(self.version));
    }

    /// Is all well?
    fn look_around(&mut self) {
        let disk = self.disk.fault.is_none() && self.disk.write_fault.is_none();
        let disk = disk && self.disk_delay < 100 * MS && self.disk.capacity >= self.plan.disk_bytes;
        self.disk_well_since = if disk { self.disk_well_since.or(Some(self.now)) } else { None };
        let well = disk && self.network == Network::Good && self.broker == Broker::Good;
        self.calm_since = if well { self.calm_since.or(Some(self.now)) } else { None };
    }
}
