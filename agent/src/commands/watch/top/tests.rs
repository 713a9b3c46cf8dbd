use bulkhead_api::event::Event;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event as Typed, KeyCode, KeyEvent, KeyModifiers};

use super::state::{Asked, State};
use super::view::draw;
use crate::commands::filter::{Filter, Meant};
use crate::commands::watch::source::Seen;

/// Seconds since the Unix epoch.
const NOW: u64 = 1_795_942_400;

fn event(json: &str) -> Seen {
    Seen::Event {
        event: Box::new(Event::read(json.as_bytes()).unwrap()),
        line: String::new(),
        is_past: false,
    }
}

fn drop(source: &str, port: u16, count: u64) -> Seen {
    event(&format!(
        r#"{{"time":"2026-11-29T08:53:14.926Z","node":"n","kind":"drop","direction":"ingress",
        "source":{{"address":"10.0.0.1","name":"{source}"}},
        "destination":{{"address":"10.0.0.2","name":"oms-1"}},"destination_port":{port},"protocol":"tcp",
        "interface":"wg0","rule":{{"number":5,"name":"no-ssh"}},
        "reason":"deny_rule","count":{count},"bytes":60,"generation":1,"audit":false}}"#
    ))
}

fn state() -> State {
    State::new(&Filter::default(), Meant::default())
}

fn lines(state: &State, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, true)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let cells: Vec<_> = buffer.content().iter().map(|cell| cell.symbol().to_owned()).collect();
    cells.chunks(width.into()).map(|line| line.concat().trim_end().to_owned()).collect()
}

fn press(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        let code = if letter == '\n' { KeyCode::Enter } else { KeyCode::Char(letter) };
        let typed = Typed::Key(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(state.key(&typed), Asked::Nothing, "{letter:?}");
    }
}

/// Lines that tell of a pair, in their order.
fn pairs(state: &State) -> Vec<String> {
    lines(state, (120, 30)).into_iter().filter(|line| line.contains("oms-1")).collect()
}

#[test]
fn drops_are_shown_by_pair_with_rates_and_losses() {
    let mut state = state();
    for second in 0..10 {
        state.see(&drop("often", 22, 30), NOW + second);
    }
    state.see(&drop("seldom", 443, 1), NOW + 3);
    state.see(&event(r#"{"time":"2026-11-29T08:53:14Z","node":"n","kind":"missed","missed":7}"#), NOW);
    state.live.now = NOW + 10;
    let shown = lines(&state, (120, 30));
    let all = shown.join("\n");
    assert!(all.contains("drops a second: 30 now, 30 over 10 s, 5.0 over 60 s"), "{all}");
    assert!(all.contains("drops seen: 301"), "{all}");
    assert!(all.contains("7 missed here") && all.contains("no agent answers"), "{all}");
    let rows = pairs(&state);
    assert!(rows[0].contains("often") && rows[0].contains("22/tcp") && rows[0].contains("300"), "{all}");
    assert!(rows[1].contains("seldom") && rows[1].contains("deny_rule") && rows[1].contains("wg0"), "{all}");
    assert!(all.contains("no-ssh"), "{all}");
    // Another order, and columns where they were.
    let place = |rows: &[String], what| rows[0].find(what).unwrap();
    let before = place(&rows, "oms-1");
    press(&mut state, "sss");
    let rows = pairs(&state);
    assert!(rows[0].contains("often") && place(&rows, "oms-1") == before, "{rows:?}");
    state.see(&drop("a-first", 1, 1), NOW);
    assert!(pairs(&state)[0].contains("a-first"));
}

#[test]
fn held_still_it_counts_on() {
    let mut state = state();
    state.see(&drop("alpha", 22, 1), NOW);
    press(&mut state, "p");
    state.see(&drop("omega", 22, 1), NOW);
    let shown = lines(&state, (120, 30)).join("\n");
    assert!(shown.contains("HELD STILL") && shown.contains("alpha") && !shown.contains("omega"), "{shown}");
    press(&mut state, "p");
    let shown = lines(&state, (120, 30)).join("\n");
    assert!(!shown.contains("HELD STILL") && shown.contains("omega"), "{shown}");
}

#[test]
fn a_filter_is_typed_and_a_wrong_one_changes_nothing() {
    let mut state = state();
    press(&mut state, "/port=22 reason=deny_rule\n");
    assert_eq!(state.words, "port=22 reason=deny_rule");
    state.see(&drop("in", 22, 1), NOW);
    state.see(&drop("out", 23, 1), NOW);
    let rows = pairs(&state);
    assert!(rows.len() == 1 && rows[0].contains("in"), "{rows:?}");
    for wrong in ["/x\n", "/ reason=because\n", "/ prt=1\n"] {
        press(&mut state, wrong);
        assert!(state.wrong.is_some(), "{wrong}");
        assert_eq!(state.words, "port=22 reason=deny_rule", "{wrong}");
        assert_eq!(pairs(&state).len(), 1);
    }
    // Taken away.
    press(&mut state, "/");
    for _ in 0..40 {
        state.key(&Typed::Key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE)));
    }
    press(&mut state, "\n");
    state.see(&drop("out", 23, 1), NOW);
    assert_eq!(pairs(&state).len(), 1, "{:?}", state.words);
    assert!(state.words.is_empty() && state.wrong.is_none());
}

#[test]
fn keys_end_it() {
    for (code, modifiers) in
        [(KeyCode::Char('q'), KeyModifiers::NONE), (KeyCode::Char('c'), KeyModifiers::CONTROL)]
    {
        assert_eq!(state().key(&Typed::Key(KeyEvent::new(code, modifiers))), Asked::End);
    }
}

#[test]
fn every_size_is_drawn() {
    let mut state = state();
    state.see(&drop("\\u001b[2J", 22, 1), NOW);
    state.see(&drop(&"long".repeat(40), 22, 1), NOW);
    state.see(&event(r#"{"time":"2026-11-29T08:53:14Z","node":"n","kind":"unenforced","interface":"wg0",
        "since":"2026-11-29T08:53:13Z","milliseconds":1,"agent":true,"cause":"gone\u001b","effect":"open","generation":1}"#), NOW);
    for (width, height) in [(1, 1), (59, 13), (60, 14), (80, 24), (109, 40), (110, 40), (250, 80)] {
        for line in lines(&state, (width, height)) {
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }
}
