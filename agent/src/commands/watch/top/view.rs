//! Draws one picture.

use bulkhead_api::event::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row as Cells, Sparkline, Table};

use super::polled::{Counter, Polled};
use super::state::{Picture, State};
use super::tally::{Tally, WINDOW};

/// Lines and columns below which nothing is legible.
const LEAST: (u16, u16) = (14, 60);

/// Alarms that are shown.
const ALARMS: usize = 3;

/// Columns from which on the ends of a pair have room beside all else.
const WIDE: u16 = 110;

/// Styles: with colours, or without.
#[derive(Clone, Copy)]
struct Palette {
    color: bool,
}

impl Palette {
    fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

const HEAD: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws the state.
pub fn draw(frame: &mut Frame<'_>, state: &State, color: bool) {
    let (palette, area) = (Palette { color }, frame.area());
    if area.height < LEAST.0 || area.width < LEAST.1 {
        let words = format!("needs {} lines of {} columns; q ends", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let picture = state.picture();
    let notes = notes(picture, state, palette);
    let below = (area.height / 3).clamp(4, 12);
    let [title, rates, losses, pairs, tables, said, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(4),
        Constraint::Length(below),
        Constraint::Length(notes.len() as u16),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, picture, palette, title);
    draw_rates(frame, picture, palette, rates);
    frame.render_widget(Paragraph::new(losses_of(picture, palette)), losses);
    draw_pairs(frame, state, pairs);
    let [rules, reasons] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(tables);
    draw_rules(frame, picture, rules);
    draw_reasons(frame, &picture.polled, reasons);
    frame.render_widget(Paragraph::new(notes), said);
    frame.render_widget(Paragraph::new(keys_of(state, palette)), keys);
}

fn draw_title(frame: &mut Frame<'_>, picture: &Picture, palette: Palette, area: Rect) {
    let Polled { title, is_enforced, .. } = &picture.polled;
    let words = title.as_deref().unwrap_or("no agent answers");
    let time = Timestamp::from_unix(picture.now.saturating_mul(1_000_000_000)).milliseconds();
    let time = format!("{} {}Z", &time[..10], &time[11..19]);
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(time.len() as u16)]).areas(area);
    let style = if *is_enforced { palette.good() } else { palette.bad() };
    let line = Line::from(vec![Span::styled("bulkhead ", Modifier::BOLD), Span::styled(words, style)]);
    frame.render_widget(Paragraph::new(line), left);
    frame.render_widget(Paragraph::new(time).alignment(Alignment::Right), right);
}

fn draw_rates(frame: &mut Frame<'_>, picture: &Picture, palette: Palette, area: Rect) {
    let Picture { tally: Tally { drops, .. }, polled, now } = picture;
    let decided: f64 = polled.rules.values().map(|counter| counter.rate).sum();
    let [one, ten, sixty] = [1, 10, 60].map(|over| number(drops.per_second(*now, over)));
    let words = vec![
        Line::from(format!("drops a second: {one} now, {ten} over 10 s, {sixty} over 60 s")),
        Line::from(format!("drops seen: {}   decided by rules a second: {}", drops.total(), number(decided))),
    ];
    let [left, right] = Layout::horizontal([Constraint::Min(58), Constraint::Max(60)]).areas(area);
    frame.render_widget(Paragraph::new(words), left);
    let room = usize::from(right.width);
    let seconds: Vec<u64> = drops.before(*now).rev().take(room).collect();
    let seconds: Vec<u64> = seconds.into_iter().rev().collect();
    frame.render_widget(Sparkline::default().data(seconds).style(palette.of(Color::Red)), right);
}

fn losses_of(picture: &Picture, palette: Palette) -> Line<'_> {
    let Picture { tally, polled, .. } = picture;
    let [ring, budget] = polled.lost;
    let lost = [
        ("ring full", ring),
        ("over budget", budget),
        ("not in the log", polled.unwritten),
        ("missed here", tally.missed),
    ];
    let style = |count| if count == 0 { Style::new() } else { palette.bad() };
    let mut spans = vec![Span::raw("lost:")];
    for (place, (what, count)) in lost.into_iter().enumerate() {
        spans.push(Span::raw(if place == 0 { " " } else { ", " }));
        spans.push(Span::styled(format!("{count} {what}"), style(count)));
    }
    if polled.quarantined > 0 {
        spans.push(Span::styled(
            format!("   quarantined: {}", polled.quarantined),
            palette.of(Color::Magenta),
        ));
    }
    Line::from(spans)
}

fn draw_pairs(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let Picture { tally, now, .. } = state.picture();
    let rows = state.pairs();
    let is_wide = area.width >= WIDE;
    let cells = rows.iter().take(area.height.into()).map(|(pair, row)| {
        let last = Timestamp::from_unix(row.last.saturating_mul(1_000_000_000)).milliseconds();
        let mut cells = vec![
            pair.what.to_owned(),
            pair.direction.to_owned(),
            pair.source.clone(),
            pair.destination.clone(),
            pair.port.clone(),
            pair.reason.clone(),
            format!("{:>7}", number(row.rate.per_second(*now, WINDOW))),
            format!("{:>9}", row.rate.total()),
        ];
        if is_wide {
            cells.extend([last[11..19].to_owned(), pair.interface.clone()]);
        }
        Cells::new(cells)
    });
    let mut head = vec!["what", "dir", "from", "to", "port", "reason", "    /s", "    total"];
    let mut widths = vec![
        Constraint::Length(7),
        Constraint::Length(3),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(if is_wide { 20 } else { 12 }),
        Constraint::Length(7),
        Constraint::Length(9),
    ];
    if is_wide {
        head.extend(["last", "on"]);
        widths.extend([Constraint::Length(8), Constraint::Length(10)]);
    }
    let others = if tally.pairs.others == 0 {
        String::new()
    } else {
        format!(", and {} drops of others", tally.pairs.others)
    };
    let title = format!("drops by pair: {}, by {}{others}", rows.len(), state.sort.name());
    let table =
        Table::new(cells, widths).header(Cells::new(head).style(HEAD)).block(Block::new().title(title));
    frame.render_widget(table, area);
}

fn draw_rules(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let Picture { tally, polled, now } = picture;
    let dropped = |name: &String| tally.rules.get(name);
    let names = polled.rules.keys().chain(tally.rules.rows().map(|(name, _)| name));
    let mut rows: Vec<_> = names
        .map(|name| {
            let decided = polled.rules.get(name).cloned().unwrap_or_default();
            let drops = dropped(name).map_or(0.0, |row| row.rate.per_second(*now, WINDOW));
            (name, decided, drops, dropped(name).map_or(0, |row| row.rate.total()))
        })
        .collect();
    let busy = |(_, decided, drops, _): &(&String, Counter, f64, u64)| decided.rate + drops;
    rows.sort_by(|one, other| busy(other).total_cmp(&busy(one)).then_with(|| one.0.cmp(other.0)));
    rows.dedup_by(|one, other| one.0 == other.0);
    let cells = rows.into_iter().take(area.height.into()).map(|(name, decided, drops, dropped)| {
        let [deciding, dropping] = [decided.rate, drops].map(|rate| format!("{:>9}", number(rate)));
        Cells::new(vec![name.clone(), deciding, dropping, format!("{dropped:>9}")])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(9), Constraint::Length(9), Constraint::Length(9)];
    let head = Cells::new(["rule", "packets/s", " denied/s", "   denied"]).style(HEAD);
    frame.render_widget(Table::new(cells, widths).header(head), area);
}

fn draw_reasons(frame: &mut Frame<'_>, polled: &Polled, area: Rect) {
    let mut rows: Vec<_> = polled.reasons.iter().filter(|(_, counter)| counter.packets > 0).collect();
    rows.sort_by(|(one, a), (other, b)| {
        b.rate.total_cmp(&a.rate).then_with(|| b.packets.cmp(&a.packets)).then_with(|| one.cmp(other))
    });
    let cells = rows.into_iter().take(area.height.into()).map(|((reason, direction), counter)| {
        let rate = format!("{:>9}", number(counter.rate));
        Cells::new(vec![reason.clone(), direction.clone(), rate, format!("{:>10}", counter.packets)])
    });
    let widths = [Constraint::Fill(1), Constraint::Length(7), Constraint::Length(9), Constraint::Length(10)];
    let head = Cells::new(["reason", "dir", "packets/s", "   packets"]).style(HEAD);
    frame.render_widget(Table::new(cells, widths).header(head), area);
}

fn notes(picture: &Picture, state: &State, palette: Palette) -> Vec<Line<'static>> {
    let bad = |words: &str| Line::styled(words.to_owned(), palette.bad());
    let problem = picture.polled.problem.as_deref().map(|words| bad(&format!("problem: {words}")));
    let gap = state.gap.as_deref().map(bad);
    let alarms = &picture.polled.alarms;
    let shown = alarms.iter().take(ALARMS).map(|words| bad(&format!("ALARM {words}")));
    let more = alarms.len().checked_sub(ALARMS + 1);
    let more = more.map(|more| bad(&format!("and {} alarms more: `bulkhead status` has them", more + 1)));
    let notice = picture.tally.notice.as_deref().map(|words| Line::from(format!("last: {words}")));
    problem.into_iter().chain(shown).chain(more).chain(gap).chain(notice).collect()
}

fn keys_of(state: &State, palette: Palette) -> Line<'_> {
    if let Some(typed) = &state.typed {
        return Line::from(format!("filter, such as from=engine-1 port=22; Enter, Esc: {typed}_"));
    }
    let held = if state.held.is_some() { "  HELD STILL" } else { "" };
    let filter = if state.words.is_empty() { "none" } else { &state.words };
    let words = format!("q end  p hold  s sort  / filter: {filter}");
    let wrong = state.wrong.as_deref().map(|wrong| format!("  {wrong}")).unwrap_or_default();
    Line::from(vec![
        Span::styled(words, palette.faint()),
        Span::styled(held, Modifier::BOLD),
        Span::styled(wrong, palette.bad()),
    ])
}

/// A rate in few digits.
fn number(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate if rate < 1e6 => format!("{rate:.0}"),
        rate => format!("{:.1}M", rate / 1e6),
    }
}
