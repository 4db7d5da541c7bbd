"""What a release says of what it needs: locks with hashes, licences, and a bill of materials."""
