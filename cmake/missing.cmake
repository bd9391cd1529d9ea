message(FATAL_ERROR "${WHAT} is missing: run scripts/bootstrap check")
