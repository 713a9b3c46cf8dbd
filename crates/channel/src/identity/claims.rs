//! JWTs as nats-server reads them: RFC 7519 with the algorithm `ed25519-nkey`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::BASE32_NOPAD;
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// No JWT is longer, in bytes. An account's grows by some 80 bytes a revoked host.
const LONGEST: usize = 1 << 20;

/// What a JWT says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Until when it is valid, in seconds since 1970; none: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// The public key that signs it.
    #[serde(default)]
    pub iss: String,
    /// A digest of the rest.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// A name; of an agent, its [`token`](crate::layout::token).
    #[serde(default)]
    pub name: String,
    /// The public key that it is about.
    pub sub: String,
    /// What NATS makes of it.
    pub nats: Value,
    /// What a fleet makes of it; NATS passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Value>,
}

impl Claims {
    /// Claims about a key, made now.
    #[must_use]
    pub fn new(subject: &str, name: &str, nats: Value) -> Self {
        Self {
            iat: now(),
            exp: None,
            iss: String::new(),
            jti: String::new(),
            name: name.to_owned(),
            sub: subject.to_owned(),
            nats,
            bulkhead: None,
        }
    }

    /// The JWT of them, signed.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(mut self, key: &KeyPair) -> Result<String> {
        let failed = |error: &dyn std::fmt::Display| Error::Settings(format!("signing a JWT: {error}"));
        self.iss = key.public_key();
        self.jti = String::new();
        let body = serde_json::to_vec(&self).map_err(|error| failed(&error))?;
        self.jti = BASE32_NOPAD.encode(&Sha256::digest(body));
        let body = serde_json::to_vec(&self).map_err(|error| failed(&error))?;
        let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" }).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(body));
        let signature = key.sign(signed.as_bytes()).map_err(|error| failed(&error))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a JWT says, whoever has signed it.
    ///
    /// # Errors
    /// It is none.
    pub fn read(jwt: &str) -> Result<Self> {
        let wrong = || Error::Settings("this is no JWT of NATS".to_owned());
        if jwt.len() > LONGEST {
            return Err(wrong());
        }
        let mut parts = jwt.trim().split('.');
        let (Some(_), Some(body), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| wrong())?;
        serde_json::from_slice(&body).map_err(|_| wrong())
    }
}

/// What a JWT says, if the key has signed it and it is valid now.
///
/// # Errors
/// The signature does not fit, another key is named as the signer, or its time is over.
pub fn verify(jwt: &str, issuer: &str) -> Result<Claims> {
    let claims = Claims::read(jwt)?;
    let wrong = |what: &str| Error::Settings(format!("the JWT of `{}` {what}", claims.name.escape_debug()));
    let (signed, signature) = jwt.trim().rsplit_once('.').ok_or_else(|| wrong("is damaged"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong("is damaged"))?;
    let key =
        KeyPair::from_public_key(issuer).map_err(|_| wrong("cannot be checked: the issuer's key is none"))?;
    if claims.iss != issuer || key.verify(signed.as_bytes(), &signature).is_err() {
        return Err(wrong("is not signed by this fleet's key"));
    }
    if claims.exp.is_some_and(|end| end <= now()) {
        return Err(wrong("is over: ask for another"));
    }
    Ok(claims)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;
    use serde_json::json;

    use super::{Claims, now, verify};

    #[test]
    fn what_is_signed_is_verified() {
        let (key, other) = (KeyPair::new_account(), KeyPair::new_account());
        let user = KeyPair::new_user().public_key();
        let claims = Claims::new(&user, "oms-9", json!({ "type": "user", "version": 2 }));
        let jwt = claims.clone().sign(&key).unwrap();
        let read = verify(&jwt, &key.public_key()).unwrap();
        assert_eq!((&*read.name, &read.sub, read.iss), ("oms-9", &user, key.public_key()));
        assert!(verify(&jwt, &other.public_key()).unwrap_err().to_string().contains("not signed"));
        // The other key's JWT, which names the first as its issuer.
        let forged = claims.clone().sign(&other).unwrap();
        let body = jwt.split('.').nth(1).unwrap();
        let parts: Vec<&str> = forged.split('.').collect();
        assert!(verify(&format!("{}.{body}.{}", parts[0], parts[2]), &key.public_key()).is_err());
        let over = Claims { exp: Some(now() - 1), ..claims }.sign(&key).unwrap();
        assert!(verify(&over, &key.public_key()).unwrap_err().to_string().contains("is over"));
        for damaged in ["", "a.b", "a.b.c", "a.b.c.d"] {
            assert!(Claims::read(damaged).is_err(), "{damaged}");
        }
    }
}
