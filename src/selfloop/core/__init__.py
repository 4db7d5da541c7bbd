"""What everything else stands on: settings, errors, files, streams, samples."""
