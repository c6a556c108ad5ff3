//! Whether the buses can do in time what the poll groups ask; the arithmetic is the poll room's.

use gateway_core::poll::plan::{BusPlan, Problem, Remark};
use gateway_core::poll::settings::Settings;
use gateway_core::tag::GroupId;

use super::Context;
use super::topic::FieldPlaces;

/// Reports buses that are asked for more than fits, and those that are close to it.
pub(crate) fn report(cx: &Context<'_, '_>, settings: &Settings, places: &FieldPlaces) {
    let every = |group: &GroupId| places.every.get(usize::try_from(group.0).unwrap_or(usize::MAX));
    let plans = BusPlan::all(settings);
    if plans.iter().any(|plan| !plan.problems.is_empty()) {
        cx.found.explain(BusPlan::render(&plans, settings));
    }
    for plan in plans {
        let name = settings.buses.get(plan.bus).map_or("?", |bus| bus.name.as_str());
        let bus = places.buses.get(plan.bus);
        for problem in &plan.problems {
            let place = match problem {
                Problem::TooMuch { costliest, .. } | Problem::TooManyRequests { costliest, .. } => {
                    every(costliest)
                }
                Problem::PointTooLong { tag, .. } | Problem::PointBeyondEnd { tag } => places.tags.get(*tag),
            };
            if let Some(place) = place.or(bus) {
                cx.found.misfit(
                    place,
                    format!("bus `{name}` cannot be polled in time: {}", problem.text(settings)),
                );
            }
        }
        for remark in &plan.remarks {
            let place = match remark {
                Remark::Tight { .. } => bus,
                Remark::Blocked { group, .. } | Remark::Connecting { group, .. } => every(group),
            };
            if let Some(place) = place.or(bus) {
                cx.found.warn(place, format!("bus `{name}`: {}", remark.text(settings)));
            }
        }
    }
}
