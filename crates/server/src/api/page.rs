//! The two forms of a list. `GET` lists take `limit` and `cursor` and answer `{items, next_cursor}`. The `POST
//! .../page` form of the guide takes `{"filter": {"field": {"eq": ..}}, "page": {"page": 1, "page_size": 10}}`
//! and answers `{items, page, has_more}`; `eq` and `in` are its only operators.

use std::{fmt::Display, str::FromStr};

use hetuflow_store::{Page, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ApiError;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 500;
/// Entries that a numbered page may skip; further on, cursors are the way.
const MAX_SKIP: u64 = 10_000;

/// One page of a list, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    items: Vec<T>,
    /// Give it as `cursor` for what follows; null at the end.
    next_cursor: Option<Uuid>,
}

pub(super) fn cursor_page(limit: Option<u32>, cursor: Option<Uuid>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    check_size("limit", limit)?;
    Ok(Page { before: cursor, limit })
}

impl<T> Items<T> {
    pub(super) fn new(items: Vec<T>, page: Page, id: impl Fn(&T) -> Uuid) -> Self {
        let full = items.len() as u64 == u64::from(page.limit);
        let next_cursor = if full { items.last().map(id) } else { None };
        Self { items, next_cursor }
    }

    /// What a search has found so far, and where it goes on.
    pub(super) const fn up_to(items: Vec<T>, next_cursor: Option<Uuid>) -> Self {
        Self { items, next_cursor }
    }

    /// A list that is always whole.
    pub(super) const fn all(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "F: Deserialize<'de> + Default"))]
pub(super) struct PageQuery<F> {
    #[serde(default)]
    pub(super) filter: F,
    #[serde(default)]
    pub(super) page: Numbered,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Numbered {
    /// Counted from 1.
    #[serde(default = "first")]
    page: u32,
    #[serde(default = "default_limit")]
    page_size: u32,
}

const fn first() -> u32 {
    1
}

const fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

impl Default for Numbered {
    fn default() -> Self {
        Self { page: first(), page_size: default_limit() }
    }
}

/// The answer to a numbered page.
#[derive(Debug, Serialize)]
pub(super) struct PageOf<T> {
    items: Vec<T>,
    page: Numbered,
    has_more: bool,
}

impl Numbered {
    fn skip(self) -> Result<u64, ApiError> {
        check_size("page_size", self.page_size)?;
        let skip = u64::from(self.page.max(1) - 1) * u64::from(self.page_size);
        if skip > MAX_SKIP {
            return Err(ApiError::BadRequest(format!(
                "this page begins after {skip} entries; beyond {MAX_SKIP} use the GET list with its cursor"
            )));
        }
        Ok(skip)
    }

    /// Walks the store's pages up to this one.
    pub(super) async fn walk<T, F>(
        self,
        fetch: impl Fn(Page) -> F,
        id: impl Fn(&T) -> Uuid,
    ) -> Result<PageOf<T>, ApiError>
    where
        F: Future<Output = Result<Vec<T>, StoreError>>,
    {
        let (mut skip, mut before) = (self.skip()?, None);
        while skip > 0 {
            let limit = u32::try_from(skip).unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
            let skipped = fetch(Page { before, limit }).await?;
            before = skipped.last().map(&id);
            if skipped.len() as u64 != u64::from(limit) {
                return Ok(PageOf { items: Vec::new(), page: self, has_more: false });
            }
            skip -= u64::from(limit);
        }
        let items = fetch(Page { before, limit: self.page_size }).await?;
        let full = items.len() as u64 == u64::from(self.page_size);
        let after = Page { before: items.last().map(&id), limit: 1 };
        let has_more = full && !fetch(after).await?.is_empty();
        Ok(PageOf { items, page: self, has_more })
    }

    /// The same for a list that is whole in memory.
    pub(super) fn cut<T>(self, items: Vec<T>) -> Result<PageOf<T>, ApiError> {
        let skip = usize::try_from(self.skip()?).unwrap_or(usize::MAX);
        let size = usize::try_from(self.page_size).unwrap_or(usize::MAX);
        let has_more = items.len() > skip.saturating_add(size);
        let items = items.into_iter().skip(skip).take(size).collect();
        Ok(PageOf { items, page: self, has_more })
    }
}

fn check_size(name: &str, size: u32) -> Result<(), ApiError> {
    if (1..=MAX_LIMIT).contains(&size) {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!("{name} is {size}; allowed is 1 to {MAX_LIMIT}")))
}

/// `{"eq": value}` or `{"in": [values]}`; a value is a text or a number.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Condition {
    #[serde(default)]
    eq: Option<serde_json::Value>,
    #[serde(default, rename = "in")]
    any: Option<Vec<serde_json::Value>>,
}

/// All values that the condition allows; empty when there is none.
pub(super) fn values<T>(field: &str, condition: Option<&Condition>) -> Result<Vec<T>, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let Some(condition) = condition else { return Ok(Vec::new()) };
    let values = condition.eq.iter().chain(condition.any.iter().flatten());
    let parsed: Vec<T> = values.map(|value| one(field, value)).collect::<Result<_, _>>()?;
    if parsed.is_empty() {
        return Err(ApiError::BadRequest(format!(
            "filter.{field} needs {{\"eq\": value}} or {{\"in\": [values]}}"
        )));
    }
    Ok(parsed)
}

/// The one value that a condition on this field may allow.
pub(super) fn value<T>(field: &str, condition: Option<&Condition>) -> Result<Option<T>, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let mut values = values(field, condition)?;
    if values.len() > 1 {
        return Err(ApiError::BadRequest(format!("filter.{field} takes one value: {{\"eq\": value}}")));
    }
    Ok(values.pop())
}

fn one<T>(field: &str, value: &serde_json::Value) -> Result<T, ApiError>
where
    T: FromStr,
    T::Err: Display,
{
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => {
            return Err(ApiError::BadRequest(format!(
                "filter.{field}: {value} is neither a text nor a number"
            )));
        }
    };
    text.parse().map_err(|error| ApiError::BadRequest(format!("filter.{field}: {error}")))
}
