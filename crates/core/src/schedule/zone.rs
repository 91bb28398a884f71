//! Time zones by their IANA names.

use jiff::tz::TimeZone;

use crate::suggest;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a time zone")]
pub struct ZoneError {
    pub name: String,
    /// The zone that may have been meant.
    pub close: Option<String>,
}

impl ZoneError {
    /// What to write instead.
    #[must_use]
    pub fn help(&self) -> String {
        match &self.close {
            Some(close) => format!("did you mean {close:?}?"),
            None => "a name such as \"Europe/Berlin\" or \"UTC\"".to_owned(),
        }
    }
}

pub fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    TimeZone::get(name).map_err(|_| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        // `Berlin` means `Europe/Berlin` more than it means `Merlin`.
        let city = names
            .iter()
            .find(|known| known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name)));
        let close =
            city.map(String::as_str).or_else(|| suggest::closest(name, names.iter().map(String::as_str)));
        ZoneError { name: name.to_owned(), close: close.map(str::to_owned) }
    })
}
