//! `sessions list` and `sessions drop`: what a person sees and does of the sessions of local clients, on both ends of the control socket.
//!
//! Bounds: a page has [`PAGE_SESSIONS_MAX`] sessions, and less when their names are long ([`PAGE_BYTES_MAX`]); the command asks for one page after the other and
//! prints each at once. Client ids come from strangers: on the terminal they are cut and escaped, in JSON they are whole.

use std::time::Duration;

use gateway_core::broker::note::Shown;
use gateway_core::broker::{Broker, SessionId, SessionView, Which};
use gateway_core::tag::BootNs;

use super::client::{exchange, socket};
use super::control::{Ask, Peer, Reply};
use super::picture::table::{Align, Cell, Table};
use super::picture::{Paper, words};
use super::snapshot::{Session, SessionPage};
use super::{near, say, terminal};
use crate::cli::{self, exit};

/// Most sessions of a page: some hundred bytes each, so that the core loop is not held up.
const PAGE_SESSIONS_MAX: usize = 500;
/// Most bytes of client ids and users of a page, beyond its first session; each may have 65,535.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// Answers [`Ask::Sessions`].
pub(super) fn page(broker: &Broker, now: BootNs, after: Option<u32>) -> Reply {
    let mut page = SessionPage::default();
    let mut bytes = 0;
    for view in broker.sessions(now, after.map(SessionId)) {
        bytes += view.client.len() + view.user.as_ref().map_or(0, |user| user.len());
        let full = page.sessions.len() >= PAGE_SESSIONS_MAX || bytes > PAGE_BYTES_MAX;
        if full && !page.sessions.is_empty() {
            page.more = true;
            break;
        }
        page.sessions.push(picture(&view));
    }
    Reply::Sessions(Box::new(page))
}

/// Carries out [`Ask::DropSession`].
pub(super) fn drop(
    broker: &mut Broker,
    now: BootNs,
    (client, number): (Option<&str>, Option<u32>),
    by: Peer,
) -> Reply {
    let which = match (client, number) {
        (Some(client), None) => Which::Client(client.into()),
        (None, Some(number)) => Which::Number(SessionId(number)),
        _ => return Reply::Refused("name one session, by its client id or by its number".into()),
    };
    match broker.drop_session(now, &which) {
        Some(view) => {
            let (client, by) = (Shown::new(&view.client).to_string(), by.to_string());
            let waited = words::counted(view.messages, "message");
            log::info!(event = "session", client = client.as_str(), by = by.as_str(); "session of client {client} was dropped by command with {waited} that waited in it, by {by}");
            Reply::Dropped(Box::new(picture(&view)))
        }
        None => Reply::Refused(no_such(broker, now, client)),
    }
}

/// There is no such session, and which was probably meant.
fn no_such(broker: &Broker, now: BootNs, client: Option<&str>) -> String {
    /// So many are looked at; a person finds the others in the list.
    const COMPARED_MAX: usize = 200;
    let views: Vec<SessionView> = broker.sessions(now, None).take(COMPARED_MAX).collect();
    let near = client.and_then(|client| near::nearest(client, views.iter().map(|view| &*view.client)));
    let what = match near {
        Some(near) => format!("did you mean {}?", Shown::new(near)),
        None => "`gateway-daemon sessions list` shows all".to_owned(),
    };
    format!("there is no such session; {what}")
}

fn picture(view: &SessionView) -> Session {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Session {
        number: view.number.0,
        client: view.client.to_string(),
        user: view.user.as_ref().map(ToString::to_string),
        connected: view.connected,
        since_ms: ms(view.since),
        subscriptions: view.subscriptions as u64,
        messages: view.messages,
        bytes: view.bytes,
        expires_in_ms: view.expires_in.map(ms),
    }
}

/// `sessions`: the exit code.
#[must_use]
pub(super) fn sessions(args: &cli::Sessions) -> u8 {
    match &args.what {
        cli::SessionsCommand::List(args) => list(args),
        cli::SessionsCommand::Drop(args) => drop_one(args),
    }
}

fn list(args: &cli::SessionsList) -> u8 {
    let socket = match socket(&args.reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let paper = terminal::paper();
    let mut after = None;
    loop {
        let page = match exchange(&socket, &[Ask::Sessions { after }]) {
            Ok(mut replies) => match replies.pop() {
                Some(Reply::Sessions(page)) => page,
                other => return refused(other),
            },
            Err(code) => return code,
        };
        if args.json {
            page.sessions.iter().for_each(|session| say::json(&serde_json::json!(session)));
        } else if !page.sessions.is_empty() {
            say::text(&(draw(&page.sessions, paper).trim_end().to_owned() + "\n"));
        } else if after.is_none() {
            say::line("no sessions");
        }
        match page.sessions.last().filter(|_| page.more) {
            Some(last) => after = Some(last.number),
            None => return exit::OK,
        }
    }
}

fn drop_one(args: &cli::SessionsDrop) -> u8 {
    let socket = match socket(&args.reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let ask = Ask::DropSession { client: args.client.clone(), number: args.number };
    let reply = match exchange(&socket, &[ask]) {
        Ok(mut replies) => replies.pop(),
        Err(code) => return code,
    };
    let Some(Reply::Dropped(session)) = reply else { return refused(reply) };
    say::line(format_args!(
        "dropped: client {}, {} subscriptions, {} messages that waited",
        Shown::new(&session.client),
        session.subscriptions,
        session.messages
    ));
    exit::OK
}

fn refused(reply: Option<Reply>) -> u8 {
    let Some(Reply::Refused(why)) = reply else {
        say::error("the gateway is of another version than this command");
        return exit::IO;
    };
    say::error(why);
    exit::NO
}

/// Sessions as a table.
fn draw(sessions: &[Session], paper: impl Into<Paper>) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("number", Right),
        ("client", Left),
        ("user", Left),
        ("state", Left),
        ("subscriptions", Right),
        ("messages", Right),
        ("bytes", Right),
        ("expires", Left),
    ])
    .spare(&["bytes", "subscriptions", "expires", "user", "messages"]);
    for session in sessions {
        let state = if session.connected { "connected" } else { "away" };
        let expires = match (session.expires_in_ms, session.connected) {
            (None, _) => "never".to_owned(),
            (Some(0), true) => "with its connection".to_owned(),
            (Some(ms), true) => format!("{} after it leaves", words::duration(ms)),
            (Some(ms), false) => format!("in {}", words::duration(ms)),
        };
        table.row([
            Cell::new(session.number.to_string()),
            Cell::new(Shown::new(&session.client).as_str()),
            Cell::new(session.user.as_ref().map(|user| Shown::new(user).to_string()).unwrap_or_default()),
            Cell::new(format!("{state} for {}", words::duration(session.since_ms))),
            Cell::new(words::count(session.subscriptions)),
            Cell::new(words::count(session.messages)),
            Cell::new(words::bytes(session.bytes)),
            Cell::new(expires),
        ]);
    }
    table.draw(paper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::picture::Ink;

    fn session(client: &str) -> Session {
        Session { number: 7, client: client.into(), since_ms: 90_000, messages: 3, ..Session::default() }
    }

    #[test]
    fn a_hostile_client_id_is_one_line_without_control_characters() {
        let hostile = format!("a\n7  root\u{1b}[2J\u{202e}{}", "x".repeat(60_000));
        let text = draw(&[session(&hostile), session("press")], Ink::Plain);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()) && !text.contains('\u{202e}'), "{text}");
        assert!(text.len() < 2000, "{}", text.len());
    }

    #[test]
    fn the_table_says_how_long_and_what_waits() {
        let mut away = session("press");
        (away.expires_in_ms, away.user) = (Some(86_400_000), Some("ada".into()));
        let there = Session { connected: true, expires_in_ms: Some(0), ..session("hmi") };
        let text = draw(&[away, there, session("board")], Ink::Plain);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "7 press ada away for 1 min 30 s 0 3 0 B in 1 d 0 h");
        assert_eq!(lines[2].join(" "), "7 hmi connected for 1 min 30 s 0 3 0 B with its connection");
        assert!(lines[3].join(" ").ends_with("never"));
    }
}
