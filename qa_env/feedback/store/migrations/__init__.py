"""The scripts that bring a store to the current schema; run by `qa_env.feedback.store.schema`."""
