//! Owns what a check reports about a certificate: its expiry.
//!
//! Must not know the server; no chain is verified here. Invariant: a certificate that cannot be parsed is a missing date, not a
//! failure.

use std::time::{Duration, SystemTime};

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The end of validity (RFC 5280 section 4.1.2.5) of a certificate in DER.
pub(super) fn expiry(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    let since = u64::try_from(seconds).map_or(Duration::ZERO, Duration::from_secs);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// The remaining validity of a certificate, as text.
pub(in crate::health) fn remaining(expiry: SystemTime, now: SystemTime) -> String {
    match expiry.duration_since(now) {
        Ok(left) => format!("certificate valid for {}", days(left)),
        Err(over) => format!("certificate expired {} ago", days(over.duration())),
    }
}

/// Whether it expires in less than `days` days.
pub(in crate::health) fn is_near(expiry: SystemTime, now: SystemTime, days: u32) -> bool {
    now.checked_add(DAY * days)
        .is_some_and(|limit| expiry < limit)
}

fn days(span: Duration) -> String {
    match span.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_read_from_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["fe01.contoso.local".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let certificate = params.self_signed(&key).unwrap();
        let seconds = Duration::from_secs(1_927_843_200);
        assert_eq!(
            expiry(certificate.der()),
            Some(SystemTime::UNIX_EPOCH + seconds)
        );
        assert_eq!(expiry(b"garbage"), None);
        assert_eq!(expiry(&[]), None);
    }

    #[test]
    fn the_remaining_days_are_described() {
        let now = SystemTime::UNIX_EPOCH + DAY * 10_000;
        assert_eq!(
            remaining(now + DAY * 30, now),
            "certificate valid for 30 days"
        );
        assert_eq!(remaining(now + DAY, now), "certificate valid for 1 day");
        assert_eq!(remaining(now, now), "certificate valid for less than a day");
        assert_eq!(
            remaining(now - DAY * 2, now),
            "certificate expired 2 days ago"
        );
    }

    #[test]
    fn the_expiry_is_near_below_the_configured_days() {
        let now = SystemTime::UNIX_EPOCH + DAY * 10_000;
        assert!(!is_near(now + DAY * 14, now, 14));
        assert!(is_near(now + DAY * 13, now, 14));
        assert!(is_near(now - DAY, now, 14));
        assert!(is_near(now - DAY, now, 0));
        assert!(!is_near(now + DAY, now, 0));
    }
}
