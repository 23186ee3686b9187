"""The report of a job: typed values (`model`), checks (`schema`), terminal (`table`) and page (`page`)."""
