//! From TOML to [`Trigger`].

use super::{Known, Problems, Trigger};
use crate::id::Namespace;

pub(super) fn parse(
    _origin: &str,
    _default_name: &str,
    _namespace: &Namespace,
    _text: &str,
    _known: &dyn Known,
) -> Result<Vec<Trigger>, Problems> {
    todo!()
}
