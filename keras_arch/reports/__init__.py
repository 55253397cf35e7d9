"""Everything that is formatted for people: tables, figures, report.html, the model card."""
