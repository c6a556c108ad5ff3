//! Waking up on time. Tokio's timers tick in milliseconds, which is half of the silence between two frames at 115200 baud;
//! a timerfd wakes the same reactor within some tens of microseconds and costs no thread and no spinning.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gateway_core::tag::BootNs;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// A precise timer on `CLOCK_BOOTTIME`, the clock of [`crate::clock::now`].
#[derive(Debug)]
pub struct Alarm {
    timer: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// Makes a timer; must be called inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { timer: sys::watch(timer)? })
    }

    /// Returns at `moment`, at once when it has passed; never for `BootNs(u64::MAX)`. Dropping the future forgets the moment.
    ///
    /// # Errors
    /// The timer is broken, which the kernel gives no reason for.
    pub async fn until(&mut self, moment: BootNs) -> io::Result<()> {
        #[cfg(test)]
        if crate::virtual_time::is_on() {
            crate::virtual_time::until(moment).await;
            return Ok(());
        }
        if crate::clock::now() >= moment {
            return Ok(());
        }
        let at = Duration::from_nanos(moment.0);
        // Seconds beyond i64 are beyond the age of any machine; the far future is capped at 100 years.
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX).min(3_155_760_000);
        let value = Timespec { tv_sec: seconds, tv_nsec: i64::from(at.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::ABSTIME,
            &Itimerspec { it_interval: never, it_value: value },
        )?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0u8; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?)) {
                // An expiration of an earlier, forgotten moment is told apart by the clock.
                Ok(Ok(_)) if crate::clock::now() >= moment => return Ok(()),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn alarm_never_rings_before_its_moment_even_after_a_forgotten_one() {
        let mut alarm = Alarm::new().unwrap();
        for micros in [300, 0, 1500] {
            let forgotten = alarm.until(BootNs(u64::MAX));
            assert!(tokio::time::timeout(Duration::from_micros(1), forgotten).await.is_err());
            let moment = crate::clock::now().plus(Duration::from_micros(micros));
            alarm.until(moment).await.unwrap();
            assert!(crate::clock::now() >= moment);
        }
    }
}
