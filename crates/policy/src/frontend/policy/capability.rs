//! Names of app capabilities in grants. None is enforced here, and none admits a packet.

use crate::Dialect;
use crate::frontend::diagnostic::Diagnostic;
use crate::frontend::json::Reader;
use crate::frontend::source::Spanned;

/// Capabilities of tailscale.com that its documentation grants.
const GRANTABLE: [&str; 7] = ["drive", "golink", "kubernetes", "relay", "secrets", "tsidp", "webui"];

/// Those that Tailscale sets itself and lets no policy grant.
const SET_BY_TAILSCALE: [&str; 4] = ["drive-sharer", "funnel", "ingress", "relay-target"];

/// A capability is DOMAIN/PATH. One of tailscale.com that is not known is warned of: Tailscale adds some.
pub(super) fn check(reader: &mut Reader<'_>, name: &Spanned<String>, dialect: Dialect) {
    if name.value.contains("://") {
        reader.error(name.span, "capability name must have the form {domain}/{path}");
        return;
    }
    let Some(path) = name.value.strip_prefix("tailscale.com/") else { return };
    let path = path.strip_prefix("cap/").unwrap_or(path);
    if GRANTABLE.contains(&path) {
        return;
    }
    if SET_BY_TAILSCALE.contains(&path) && dialect == Dialect::Tailscale {
        reader.error(name.span, "capability name must not be in the tailscale.com domain");
        return;
    }
    let message = format!("unknown capability \"{}\": it admits nothing here", name.value);
    let warning = Diagnostic::warning(reader.source, name.span, message);
    reader
        .findings
        .push(warning.help("app capabilities are the application's to enforce; check its spelling"));
}
