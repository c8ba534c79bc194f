use crate::protocol::open_enum;

open_enum! {
    /// A signature algorithm, by its JWS name (RFC 7518 §3.1, RFC 8037 §3.1).
    ///
    /// Every CA takes ES256 and RS256; Let's Encrypt also ES384 and ES512.
    pub enum SignatureAlgorithm {
        /// ECDSA with P-256 and SHA-256.
        Es256 = "ES256",
        /// ECDSA with P-384 and SHA-384.
        Es384 = "ES384",
        /// ECDSA with P-521 and SHA-512.
        Es512 = "ES512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// HMAC with SHA-256, for external account bindings only.
        Hs256 = "HS256",
        /// HMAC with SHA-384, for external account bindings only.
        Hs384 = "HS384",
        /// HMAC with SHA-512, for external account bindings only.
        Hs512 = "HS512",
    }
}
