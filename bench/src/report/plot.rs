//! Plots as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::combinators::LogCoord;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Size of a plot, pixels.
const SIZE: (u32, u32) = (760, 420);

/// Colours that are told apart with any kind of sight (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

/// A line: its name and points.
pub struct Line {
    /// As in the legend.
    pub name: String,
    /// x and y, both above zero.
    pub points: Vec<(f64, f64)>,
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

/// The smallest and the largest, with some air on a logarithmic scale.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    if low.is_finite() && high > 0.0 { low / 1.5..high * 1.5 } else { 1.0..10.0 }
}

/// Growth on logarithmic scales.
///
/// # Errors
/// If plotters fails.
pub fn growth(title: &str, x: &str, y: &str, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let points = || lines.iter().flat_map(|line| line.points.iter().copied());
        let mut chart: ChartContext<_, Cartesian2d<LogCoord<f64>, LogCoord<f64>>> = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                range(points().map(|point| point.0)).log_scale(),
                range(points().map(|point| point.1)).log_scale(),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(y)
            .x_label_formatter(&|value| super::number(*value))
            .y_label_formatter(&|value| super::number(*value))
            .light_line_style(RGBColor(240, 240, 240))
            .draw()
            .map_err(failed)?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(
                    LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)).point_size(3),
                )
                .map_err(failed)?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(RGBColor(200, 200, 200))
            .draw()
            .map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A bar: its name, its median, and the middle half of its runs.
pub struct Bar {
    /// Beside the bar.
    pub name: String,
    /// Its length.
    pub value: f64,
    /// The middle half of the runs.
    pub middle: (f64, f64),
}

/// Horizontal bars on one scale from zero.
///
/// # Errors
/// If plotters fails.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> Result<String> {
    let mut svg = String::new();
    {
        let height = 90 + 26 * bars.len() as u32;
        let root = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let longest = bars.iter().fold(0.0_f64, |longest, bar| longest.max(bar.value).max(bar.middle.1));
        let names = bars.iter().map(|bar| bar.name.chars().count()).max().unwrap_or(0) as u32;
        let count = bars.len() as f64;
        let mut chart: ChartContext<_, Cartesian2d<RangedCoordf64, RangedCoordf64>> = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(20 + 7 * names)
            .build_cartesian_2d(0.0..longest * 1.12, 0.0..count)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_desc(unit)
            .x_label_formatter(&|value| super::number(*value))
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        for (index, (bar, colour)) in bars.iter().zip(COLOURS.iter().cycle()).enumerate() {
            // The first on top.
            let bottom = count - index as f64 - 1.0;
            let rectangle =
                Rectangle::new([(0.0, bottom + 0.18), (bar.value, bottom + 0.82)], colour.mix(0.75).filled());
            let middle = PathElement::new(
                [(bar.middle.0, bottom + 0.5), (bar.middle.1, bottom + 0.5)],
                BLACK.stroke_width(2),
            );
            chart.draw_series([rectangle]).map_err(failed)?;
            chart.draw_series([middle]).map_err(failed)?;
            let (x, y) = chart.backend_coord(&(0.0, bottom + 0.5));
            let style = ("sans-serif", 13).into_text_style(&root);
            let position = plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            );
            root.draw_text(&bar.name, &style.pos(position), (x - 8, y)).map_err(failed)?;
            let (x, y) = chart.backend_coord(&(bar.value.max(bar.middle.1), bottom + 0.5));
            let style = ("sans-serif", 12).into_text_style(&root);
            let position = plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Left,
                plotters::style::text_anchor::VPos::Center,
            );
            root.draw_text(&super::number(bar.value), &style.pos(position), (x + 6, y)).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}
