"""The desired state: values, model, builder, rules, fingerprint, loading."""
