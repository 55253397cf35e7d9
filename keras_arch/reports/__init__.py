"""Reports: tables, figures, report.html and the model card."""
